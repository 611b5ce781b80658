"""Names that the field uses are answered with ours."""

import pytest

from mqmha_jax.config_io import options
from mqmha_jax.errors import unknown_name
from mqmha_jax.field_names import FIELD_NAMES, names_here
from mqmha_jax.losses import MARGINS, PAIRS
from mqmha_jax.models.encoders import ENCODERS
from mqmha_jax.models.pooling import POOLINGS


@pytest.mark.parametrize(
    ("kind", "name", "valid", "answer"),
    [
        ("loss", "arcface", MARGINS, "Unknown loss 'arcface'. It is called 'aam' here. Valid: a_softmax, aam, adaface"),
        ("loss", "CosFace", MARGINS, "It is called 'am' here."),
        ("loss", "AAM-Softmax", MARGINS, "It is called 'aam' here."),
        ("loss", "arc_margin_intertopk_subcenter", MARGINS, "It is called 'aam' here."),
        ("encoder", "ecapa", ENCODERS, "It is called 'ecapa512' or 'ecapa1024' here."),
        ("encoder", "ECAPA_TDNN_GLOB_c1024", ENCODERS, "It is called 'ecapa1024' here."),
        ("encoder", "resnet35", ENCODERS, "Did you mean 'resnet34'?"),
        ("encoder", "resnet5", ENCODERS, "Did you mean 'resnet50'?"),
        ("encoder", "ResNet-34", ENCODERS, "Did you mean 'resnet34'?"),
        ("pooling", "MQMHASTP", POOLINGS, "It is called 'mqmha' here."),
        ("pooling", "MHASTP", POOLINGS, "It is called 'mqmha' here."),
        ("option", "K", ["top_k", "sub_centres"], "It is called 'sub_centres' or 'top_k' here."),
        ("pooling", "mqhma", POOLINGS, "Did you mean 'mqmha'?"),
        ("option", "lr", ["learning_rate", "lists"], "It is called 'learning_rate' here."),
        ("option", "sub_centers", ["sub_centres", "scale"], "It is called 'sub_centres' here."),
    ],
)
def test_names_of_the_field_are_answered_with_ours(kind: str, name: str, valid: list[str], answer: str) -> None:
    assert answer in str(unknown_name(kind, name, valid))


def test_every_answer_names_something_that_exists() -> None:
    places = [option.name.split(".") for option in options()]
    known = {*MARGINS, *PAIRS, *POOLINGS, *ENCODERS, "queries", "heads", *(part for place in places for part in place)}
    assert not [name for name in FIELD_NAMES if not names_here(name, known)]
