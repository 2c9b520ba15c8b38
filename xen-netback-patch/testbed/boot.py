#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Runs one shell script in dom0 of a fresh machine and prints the console: for work on the module."""

import argparse
import pathlib
import sys

sys.dont_write_bytecode = True

import image
import machine
import packages


def main():
    here = pathlib.Path(__file__).resolve().parent.parent.parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("script", type=pathlib.Path, help="sourced by dom0's init after dom0-lib.sh")
    parser.add_argument("--netback", type=pathlib.Path, help="module, put at /xen-netback.ko of dom0")
    parser.add_argument("--kernel", default=packages.USUAL_KERNEL, choices=packages.KERNELS)
    parser.add_argument("--cache", type=pathlib.Path, default=here / "build/xen")
    parser.add_argument("--out", type=pathlib.Path, help="default: CACHE/boot")
    parser.add_argument("--pcpus", type=int, default=2)
    parser.add_argument("--scheduler", default="credit")
    parser.add_argument("--dom0-vcpus", type=int, default=1)
    parser.add_argument("--file", type=pathlib.Path, action="append", default=[],
                        help="another file for dom0's folder /")
    parser.add_argument("--timeout", type=int, default=600)
    options = parser.parse_args()
    out = (options.out or options.cache / "boot").resolve()
    out.mkdir(parents=True, exist_ok=True)
    try:
        packs = packages.fetch(options.cache.resolve() / "packages", options.kernel, print)
        base = image.ensure(packs, options.cache.resolve() / f"image-{options.kernel}")
        files = {"scenario.sh": options.script}
        files.update({path.name: path for path in options.file})
        if options.netback:
            files["xen-netback.ko"] = options.netback
        initrd = out / "initrd"
        image.with_overlay(base, files, out, initrd)
        took = machine.boot(packs, initrd, out, pcpus=options.pcpus, scheduler=options.scheduler,
                            dom0_vcpus=options.dom0_vcpus, timeout=options.timeout,
                            on_line=lambda line: print(line, flush=True))
        print(f"{took:.0f} s; results and logs in {out}")
        return 0
    except (packages.Error, machine.Failure) as error:
        print(f"boot.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
