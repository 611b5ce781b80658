"""Names that WeSpeaker, SpeechBrain, Kaldi and papers use for things that have another name here."""

from collections.abc import Iterable, Mapping

FIELD_NAMES: Mapping[str, tuple[str, ...]] = {
    # losses
    "arcface": ("aam",),
    "arc_margin": ("aam",),
    "arc_margin_intertopk_subcenter": ("aam",),
    "additive_angular_margin": ("aam",),
    "aam_softmax": ("aam",),
    "cosface": ("am",),
    "add_margin": ("am",),
    "additive_margin": ("am",),
    "am_softmax": ("am",),
    "sphere": ("a_softmax",),
    "sphereface": ("a_softmax",),
    "curricularface": ("curricular",),
    "ce": ("softmax",),
    "cross_entropy": ("softmax",),
    "log_softmax": ("softmax",),
    "ap": ("angular_prototypical",),
    "angleproto": ("angular_prototypical",),
    "prototypical": ("angular_prototypical",),
    "supcon": ("supervised_contrastive",),
    # poolings
    "mqmhastp": ("mqmha",),
    "mhastp": ("mqmha",),
    "astp": ("ccasp", "asp"),
    "attentive_statistics": ("asp", "ccasp"),
    "attentive_statistics_pooling": ("ccasp", "asp"),
    "self_attentive": ("sap",),
    "statistics": ("tstp",),
    "statistics_pooling": ("tstp",),
    "stats": ("tstp",),
    "mean": ("tap",),
    "average": ("tap",),
    # encoders
    "ecapa": ("ecapa512", "ecapa1024"),
    "ecapa_tdnn": ("ecapa512", "ecapa1024"),
    "ecapa_tdnn_c512": ("ecapa512",),
    "ecapa_tdnn_c1024": ("ecapa1024",),
    "ecapa_tdnn_glob_c512": ("ecapa512",),
    "ecapa_tdnn_glob_c1024": ("ecapa1024",),
    "resnet": ("resnet34",),
    "resnetse34": ("resnet34",),
    "xvector": ("tdnn",),
    "x_vector": ("xvector", "tdnn"),
    "campp": ("campplus",),
    "cam++": ("campplus",),
    # sections and options of a configuration
    "features": ("fbank",),
    "feats": ("fbank",),
    "fbank_args": ("fbank",),
    "dataset": ("data",),
    "dataset_args": ("data",),
    "optim": ("optimizer",),
    "optimizer_args": ("optimizer",),
    "projection": ("loss",),
    "projection_args": ("loss",),
    "trainer": ("train",),
    "spec_aug": ("spec_augment",),
    "lr": ("learning_rate",),
    "initial_lr": ("learning_rate",),
    "base_lr": ("learning_rate",),
    "final_lr": ("final_learning_rate",),
    "lr_final": ("final_learning_rate",),
    "wd": ("weight_decay",),
    "warm_up_epoch": ("warmup",),
    "warmup_steps": ("warmup",),
    "epochs": ("steps",),
    "num_epochs": ("steps",),
    "number_of_epochs": ("steps",),
    "batch": ("batch_size",),
    "workers": ("num_workers",),
    "num_frms": ("crop_frames",),
    "sentence_len": ("crop_frames",),
    "n_mels": ("num_mel_bins",),
    "sample_rate": ("sample_rate_hz",),
    "frame_length": ("frame_length_ms",),
    "frame_shift": ("frame_shift_ms",),
    "embed_dim": ("embedding_dim",),
    "emb_dim": ("embedding_dim",),
    "lin_neurons": ("embedding_dim",),
    "sub_centers": ("sub_centres",),
    "subcenters": ("sub_centres",),
    "num_subcenters": ("sub_centres",),
    "k": ("sub_centres", "top_k"),
    "k_top": ("top_k",),
    "mp": ("penalty",),
    "s": ("scale",),
    "m": ("margin",),
    "clip_grad": ("max_gradient_norm",),
    "save_epoch_interval": ("checkpoint_every",),
    "num_avg": ("keep_checkpoints",),
    "query_num": ("queries",),
    "head_num": ("heads",),
}
"""Name elsewhere -> names here, the likeliest first. Names here that a registry does not have are skipped."""


def names_here(name: str, valid: Iterable[str]) -> list[str]:
    """Our names for what the field calls ``name``.

    Args:
      name: what a user wrote, in any case, with any of ``-``, ``_`` and blanks or without.
      valid: the names that are accepted.

    Returns:
      The valid names that it stands for, the likeliest first; empty if it is not known.
    """
    accepted = set(valid)
    return [ours for ours in _BY_PLAIN_NAME.get(plain(name), ()) if ours in accepted]


def plain(name: str) -> str:
    """The name without case, ``-``, ``_`` and spaces: ``AAM-Softmax`` and ``aam_softmax`` are one."""
    return "".join(character for character in name.lower() if character not in "-_ ")


_BY_PLAIN_NAME = {plain(name): ours for name, ours in FIELD_NAMES.items()}
