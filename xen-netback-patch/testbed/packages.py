# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Debian packages that are needed but must not be installed: Xen, the kernel with its headers and
source. Downloaded with apt (which checks the archive's signatures) and unpacked below a folder."""

import dataclasses
import lzma
import os
import pathlib
import re
import shutil
import subprocess

def _codename():
    """Of this machine's Debian."""
    text = pathlib.Path("/etc/os-release").read_text()
    found = re.search(r"^VERSION_CODENAME=(\w+)", text, re.MULTILINE)
    return found[1] if found else ""


@dataclasses.dataclass(frozen=True)
class Release:
    """What a release of Debian has. `kernels`: which metapackages name the newest of a series; the first
    is the usual one."""

    xen: str
    qemu_suite: str
    kernels: dict


RELEASES = {
    # Its own emulator (7.2) lets the first of its processors starve the others under icount.
    "bookworm": Release("4.17", "bookworm-backports", {
        "6.1": ("linux-image-amd64", "linux-headers-amd64"),
        "6.12": ("linux-image-6.12-amd64", "linux-headers-6.12-amd64")}),
    "trixie": Release("4.20", "trixie", {
        "6.12": ("linux-image-amd64", "linux-headers-amd64")}),
}
CODENAME = _codename()
# Elsewhere fetch() says that it does not go.
RELEASE = RELEASES.get(CODENAME, RELEASES["bookworm"])
XEN = RELEASE.xen
KERNELS = RELEASE.kernels
USUAL_KERNEL = next(iter(KERNELS))
QEMU = ("qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios")


class Error(Exception):
    """Something could not be had; the text says what to do."""


def run(command, **options):
    """Runs a command; Error with its last words if it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          check=False, stdin=subprocess.DEVNULL, **options)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise Error(f"{' '.join(map(str, command[:4]))} ... failed: {' / '.join(words[-3:])}")
    return done.stdout


@dataclasses.dataclass(frozen=True)
class Packages:
    """What was unpacked. `release` is the kernel's, as uname -r says it."""

    root: pathlib.Path
    release: str

    @property
    def qemu(self):
        """The emulator's program; its data is in ../share."""
        return self.root.parent / "qemu/usr/bin/qemu-system-x86_64"

    @property
    def xen(self):
        """The hypervisor, decompressed, as QEMU's -kernel takes it."""
        return self.root / "xen"

    @property
    def vmlinux(self):
        return self.root / "vmlinux"

    @property
    def modules(self):
        return self.root / "lib/modules" / self.release

    @property
    def headers(self):
        return self.root / "usr/src" / f"linux-headers-{self.release}"

    @property
    def source(self):
        """The tar archive of the matching kernel source."""
        series = ".".join(self.release.split(".")[:2])
        return self.root / "usr/src" / f"linux-source-{series}.tar.xz"

    def debug_kernel(self, config, patch, folder, say):
        """Builds dom0's kernel with `config` and `patch` below `folder`, once. Returns its build
        folder, which has vmlinux and is what modules are built against."""
        tree = folder / "linux"
        made_of = config.read_text() + patch.read_text()
        if not (folder / "done").exists() or (folder / "done").read_text() != made_of:
            say("building dom0's debugging kernel: about half an hour of a processor; "
                f"{folder}/make.log shows how far it is")
            tree.mkdir(parents=True, exist_ok=True)
            if not (tree / "Makefile").exists():
                run(["tar", "-C", tree, "--strip-components=1", "-xf", self.source])
                run(["patch", "--directory", tree, "--fuzz=0", "--quiet", "--strip=1",
                     f"--input={patch}"])
            run(["make", "-C", tree, f"KCONFIG_ALLCONFIG={config}", "allnoconfig"])
            with open(folder / "make.log", "wb") as log:
                done = subprocess.run(["make", "-C", tree, f"-j{os.cpu_count()}", "vmlinux", "modules"],
                                      stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False)
            if done.returncode != 0:
                raise Error(f"the kernel does not build; see {folder}/make.log")
            (folder / "done").write_text(made_of)
        return tree

    @property
    def xen_bin(self):
        return self.root / f"usr/lib/xen-{XEN}/bin"


def _apt(state):
    """apt's options for lists and cache of our own, so that neither root nor fresh lists are needed.
    Keys and sources are the machine's, and the backports of the archive that they name."""
    (state / "lists/partial").mkdir(parents=True, exist_ok=True)
    (state / "archives/partial").mkdir(parents=True, exist_ok=True)
    (state / "sources").mkdir(exist_ok=True)
    for source in (pathlib.Path("/etc/apt/sources.list"),
                   *sorted(pathlib.Path("/etc/apt").glob("sources.list.d/*"))):
        if source.exists():
            shutil.copyfile(source, state / "sources" / source.name)
    known = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)"])
    archives = [line.split()[0] for line in known.splitlines() if line.endswith(f" {CODENAME}")]
    if CODENAME not in RELEASES or not archives:
        raise Error(f"apt knows no archive of {' or '.join(RELEASES)}: is this Debian 12 or 13, and was "
                    "apt-get update run?")
    if RELEASE.qemu_suite != CODENAME:
        (state / "sources/backports.list").write_text(
            f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {archives[0]} "
            f"{RELEASE.qemu_suite} main\n")
    options = [f"Dir::State::lists={state / 'lists'}", f"Dir::Cache={state}",
               f"Dir::Cache::archives={state / 'archives'}", "Dir::Etc::sourcelist=/dev/null",
               f"Dir::Etc::sourceparts={state / 'sources'}", "APT::Sandbox::User=",
               "Acquire::Languages=none", "Acquire::Retries=3"]
    return [word for option in options for word in ("-o", option)]


def _unpack(debs, names, apt, to):
    """Downloads packages into a fresh folder and unpacks them below another."""
    shutil.rmtree(debs, ignore_errors=True)
    debs.mkdir(parents=True)
    run(["apt-get", *apt, "-qq", "download", *names], cwd=debs)
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    for deb in sorted(debs.iterdir()):
        run(["dpkg-deb", "-x", deb, to])
    shutil.rmtree(debs)


def _depends(apt, package, pattern):
    """The one dependency of `package` whose name matches."""
    text = run(["apt-cache", *apt, "depends", package])
    names = re.findall(r"^\s+Depends: (\S+)$", text, re.MULTILINE)
    matching = [name for name in names if re.fullmatch(pattern, name)]
    if not matching:
        raise Error(f"package {package}: apt knows no dependency like {pattern}")
    return matching[0]


def _payload(bzimage):
    """The ELF file in a bzImage (Documentation/x86/boot.rst of the kernel: the payload's place)."""
    image = bzimage.read_bytes()
    setup = (image[0x1f1] or 4) + 1
    begin = setup * 512 + int.from_bytes(image[0x248:0x24c], "little")
    data = image[begin:begin + int.from_bytes(image[0x24c:0x250], "little")]
    if data.startswith(b"\xfd7zXZ"):
        return lzma.LZMADecompressor().decompress(data)
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        # The kernel's size in the last four bytes is not part of the stream.
        return subprocess.run(["zstd", "-dc"], input=data[:-4], capture_output=True,
                              check=True).stdout
    raise Error(f"{bzimage.name}: compressed in a way that is not known here")


def fetch(folder, series, say):
    """Downloads and unpacks what a kernel series needs below `folder`, once. Returns Packages.
    `say` is called with a line of progress."""
    if series not in KERNELS:
        raise Error(f"no kernel series '{series}': there are {', '.join(KERNELS)}")
    folder.mkdir(parents=True, exist_ok=True)
    root = folder / series
    done = root / "release"
    qemu = folder / "qemu"
    if done.exists() and qemu.exists():
        return Packages(root, done.read_text().strip())

    apt = _apt(folder / "apt")
    say("reading the package lists")
    run(["apt-get", *apt, "-qq", "update"])
    if not qemu.exists():
        say("downloading QEMU")
        fresh = folder / "qemu.new"
        _unpack(folder / "debs", [f"{name}/{RELEASE.qemu_suite}" for name in QEMU], apt, fresh)
        os.rename(fresh, qemu)
    if done.exists():
        return Packages(root, done.read_text().strip())

    image_meta, headers_meta = KERNELS[series]
    image = _depends(apt, image_meta, r"linux-image-\d.*")
    release = image.removeprefix("linux-image-")
    headers = _depends(apt, headers_meta, r"linux-headers-\d.*")
    common = _depends(apt, headers, r"linux-headers-.*-common")
    kbuild = _depends(apt, headers, r"linux-kbuild-.*")
    if headers != f"linux-headers-{release}":
        raise Error(f"{image_meta} and {headers_meta} are of different versions: {image}, {headers}")
    version = run(["apt-cache", *apt, "show", "--no-all-versions", headers])
    version = re.search(r"^Version: (\S+)$", version, re.MULTILINE)[1]
    say(f"downloading {release} and Xen {XEN}")
    fresh = folder / f"{series}.new"
    _unpack(folder / "debs", [image, headers, common, kbuild, f"linux-source-{series}={version}",
                              f"xen-hypervisor-{XEN}-amd64", f"xen-utils-{XEN}",
                              "xenstore-utils"], apt, fresh)
    shutil.rmtree(root, ignore_errors=True)
    packages = Packages(fresh, release)
    with open(packages.xen, "wb") as out:
        subprocess.run(["gzip", "-dc", fresh / f"boot/xen-{XEN}-amd64.gz"], stdout=out, check=True)
    packages.vmlinux.write_bytes(_payload(fresh / f"boot/vmlinuz-{release}"))
    run(["depmod", "-b", fresh, release])
    # Headers name their common part by an absolute path; here they are not below /usr.
    makefile = packages.headers / "Makefile"
    text = makefile.read_text()
    makefile.write_text(text.replace(" /usr/src/", " $(dir $(lastword $(MAKEFILE_LIST)))../"))
    link = packages.modules / "build"
    link.unlink(missing_ok=True)
    (fresh / "release").write_text(release + "\n")
    os.rename(fresh, root)
    return Packages(root, release)
