"""Command line: ``make OUT`` or ``unpack BUNDLE DIR``."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m wideloop.operators.commands.bundle", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("make", help="pack the wheels of manifests/environments/<part>.txt")
    making.add_argument("out", type=Path)
    making.add_argument("--part", default="gpu-host", help="or gpu-host-disaggregated: unpack that one over the other")
    making.add_argument("--uv", default="uv", help="the uv program")
    unpacking = verbs.add_parser("unpack", help="make an environment of a bundle on the GPU host")
    unpacking.add_argument("bundle", type=Path)
    unpacking.add_argument("folder", type=Path)
    args = parser.parse_args()
    if args.verb == "make":
        from wideloop.operators.commands.bundle.make import PARTS, make

        if args.part not in PARTS:
            parser.error(f"--part {args.part}: there is {' and '.join(PARTS)}")
        print(f"{args.out}: {make(args.out, args.uv, args.part) / 2**20:.1f} MiB")
    else:
        from wideloop.operators.commands.bundle.unpack import unpack

        print(unpack(args.bundle.absolute(), args.folder.absolute()))


if __name__ == "__main__":
    main()
