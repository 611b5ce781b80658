"""What lies in the folder of downloads, as its owners give it."""

from pathlib import Path

from voxceleb_table import LISTS

from mqmha_jax.errors import UserError

PAGE = "https://www.robots.ox.ac.uk/~vgg/data/voxceleb/"
PAGE_OF = {"musan": "https://www.openslr.org/17/", "rirs": "https://www.openslr.org/28/"}
OFFICIAL = dict(zip(LISTS, ("veri_test2.txt", "list_test_all2.txt", "list_test_hard2.txt"), strict=True))


class Sources:
    """What lies in the folder of downloads."""

    def __init__(self, folder: Path) -> None:
        """Finds everything.

        Raises:
          UserError: something is missing; the message says where to get it.
        """
        self.folder = folder
        if not folder.is_dir():
            raise UserError(f"--archives {folder}: no such folder. It holds the archives of VoxCeleb, see --help.")
        self.vox1 = self._find("vox1", "vox1_dev_wav"), self._find("vox1", "vox1_test_wav")
        self.vox2 = self._find("vox2", "vox2_dev_aac")
        self.musan = self._one(PAGE_OF["musan"], "musan", "musan.tar.gz")
        self.rirs = self._one(PAGE_OF["rirs"], "RIRS_NOISES", "rirs_noises.zip")
        self.lists = {name: self._one(PAGE, official) for name, official in OFFICIAL.items()}
        self.metadata = {name: folder / f"{name}_meta.csv" for name in ("vox1", "vox2")}

    def archives(self) -> dict[str, tuple[Path, ...]]:
        """The zip archives to unpack, by the folder to unpack into; folders need none."""
        found = {"vox1/dev": self.vox1[0], "vox1/test": self.vox1[1], "vox2/dev": self.vox2, "rirs": (self.rirs,)}
        return {name: parts for name, parts in found.items() if not parts[0].is_dir()}

    def to_unpack(self) -> list[Path]:
        """All files of all archives, MUSAN's too."""
        parts = [part for parts in self.archives().values() for part in parts]
        return [*parts, *([] if self.musan.is_dir() else [self.musan])]

    def listed_in_place(self) -> list[Path]:
        """Tables of speakers, and corpora that are folders already."""
        folders = [self.vox1[0][0], self.vox2[0]]
        return [path for path in self.metadata.values() if path.is_file()] + [path for path in folders if path.is_dir()]

    def folder_of(self, name: str) -> Path | None:
        """Where ``vox1``, ``vox2``, ``musan`` or ``rirs`` lies unpacked; None if it is an archive."""
        path = {"vox1": self.vox1[0][0], "vox2": self.vox2[0], "musan": self.musan, "rirs": self.rirs}[name]
        return path if path.is_dir() else None

    def _find(self, unpacked: str, archive: str) -> tuple[Path, ...]:
        if (self.folder / unpacked).is_dir():
            return (self.folder / unpacked,)
        if (whole := self.folder / f"{archive}.zip").is_file():
            return (whole,)
        parts = tuple(sorted(self.folder.glob(f"{archive}_part[a-z][a-z]")))
        if not parts:
            raise UserError(
                f"{self.folder} has neither {archive}.zip nor its parts {archive}_parta*, nor a folder {unpacked}. Get "
                f"them from {PAGE}"
            )
        return parts

    def _one(self, page: str, *names: str) -> Path:
        for name in names:
            if (path := self.folder / name).exists():
                return path
        raise UserError(f"{self.folder} has no {' and no '.join(names)}. Get {names[-1]} from {page}")
