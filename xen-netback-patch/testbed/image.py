# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The initial RAM disks of dom0 and of the guests."""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess

import packages

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
# The operator's tool, for dom0.
VSNOOP = TOP / "build/release/tools/vsnoop"
VSNOOP_XEN = TOP / "build/release/tools/vsnoop-xen.so"
# The administrator's script, here around vif-plain.
VIF_VSNOOP = HERE.parent / "scripts/vif-vsnoop"
VSNOOP_MIGRATE = HERE.parent / "scripts/vsnoop-migrate"
# What load.cc is linked with.
LOAD_PARTS = [TOP / "tools" / name for name in ("load/net.cc", "load/peer.cc", "units.cc")]

# Modules by name; what they depend on comes along.
DOM0_MODULES = ("xenfs", "xen-privcmd", "xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-netback",
                "xen-pciback", "bridge", "8021q", "veth", "e1000e", "nvme", "sch_netem", "sch_tbf",
                "ip_tables", "iptable_filter", "xt_tcpudp", "nf_conntrack", "xt_conntrack",
                "netconsole", "sch_ingress", "cls_matchall", "cls_u32", "act_gact")
GUEST_MODULES = ("xen-netfront", "xen-pcifront", "e1000e", "sch_netem", "sch_tbf", "ip_tables",
                 "iptable_filter", "xt_tcpudp", "xt_statistic", "ip6_tables", "ip6table_filter",
                 "8021q")
# The guests' network driver with faults that can be switched on, and one that keeps to no rule; guests
# have them as /odd-netfront.ko and /hostile-netfront.ko.
ODD_NETFRONT = "odd-netfront.patch"
HOSTILE_NETFRONT = "hostile-netfront.c"
XEN_PROGRAMS = ("xl", "xenstored", "xenconsoled", "xen-init-dom0", "libxl-save-helper")
PROGRAMS = ("xen-load", "xen-cputime")
HOST_PROGRAMS = ("ip", "tc", "bridge", "ethtool", "tcpdump")
XENSTORE_PROGRAMS = ("xenstore-ls", "xenstore-read", "xenstore-write", "xenstore-rm",
                     "xenstore-list", "xenstore-watch", "xenstore-exists", "xenstore-chmod")


def _which(program):
    path = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not path:
        raise packages.Error(f"there is no '{program}' on this machine: run scripts/deps.sh xen")
    return pathlib.Path(path).resolve()


def _libraries(programs, root):
    """Files that the dynamic linker loads for `programs`, from `root` or from this machine."""
    search = [str(root / "lib/x86_64-linux-gnu"), str(root / "usr/lib/x86_64-linux-gnu")]
    found = {}
    for program in programs:
        done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False,
                              env={**os.environ, "LD_LIBRARY_PATH": ":".join(search)})
        if "not found" in done.stdout:
            missing = re.findall(r"(\S+) => not found", done.stdout)
            raise packages.Error(f"{program.name} lacks {', '.join(missing)}: run scripts/deps.sh xen")
        for name, path in re.findall(r"(\S+)(?: => (\S+))? \(0x", done.stdout):
            path = path or name
            if path.startswith("/"):
                found[os.path.basename(name)] = path
    # xl loads it when a thread is cancelled.
    found["libgcc_s.so.1"] = "/lib/x86_64-linux-gnu/libgcc_s.so.1"
    return found


def _copy_modules(packs, names, to):
    """Copies the modules with their dependencies, uncompressed, and an index for modprobe."""
    target = to / "lib/modules" / packs.release
    target.mkdir(parents=True)
    depends = {}
    for line in (packs.modules / "modules.dep").read_text().splitlines():
        module, _, needs = line.partition(":")
        depends[pathlib.Path(module).name.split(".ko")[0].replace("-", "_")] = \
            [module, *needs.split()]
    for name in names:
        if name.replace("-", "_") not in depends:
            continue  # built into the kernel
        for module in depends[name.replace("-", "_")]:
            out = target / module
            if module.endswith(".xz"):
                out = out.with_suffix("")
            if out.exists():
                continue
            out.parent.mkdir(parents=True, exist_ok=True)
            if module.endswith(".xz"):
                out.write_bytes(subprocess.run(["xz", "-dc", packs.modules / module], check=True,
                                               capture_output=True).stdout)
            else:
                shutil.copyfile(packs.modules / module, out)
    for index in ("modules.builtin", "modules.order", "modules.builtin.modinfo"):
        if (packs.modules / index).exists():
            shutil.copyfile(packs.modules / index, target / index)
    packages.run(["depmod", "-b", to, packs.release])


def _skeleton(to):
    if to.exists():
        shutil.rmtree(to)
    for folder in ("bin", "sbin", "dev", "proc", "sys", "run", "tmp", "etc", "root", "lib64",
                   "var/lib", "var/log", "lib/x86_64-linux-gnu", "usr/bin", "usr/sbin", "mnt"):
        (to / folder).mkdir(parents=True)
    (to / "var/run").symlink_to("/run")
    shutil.copy2("/bin/busybox", to / "bin/busybox")
    (to / "bin/sh").symlink_to("busybox")
    (to / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (to / "etc/group").write_text("root:x:0:\n")


def _cpio(folder, out):
    """Packs a folder so that equal contents give equal bytes (a simulation's input must not vary)."""
    for base, _, names in os.walk(folder):
        for name in [*names, "."]:
            os.utime(os.path.join(base, name), (0, 0), follow_symlinks=False)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    with open(out, "wb") as file:
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0", "--reproducible"],
                       input="\n".join(names).encode(), cwd=folder, stdout=file, check=True)


def overlay(files, work, out):
    """Packs `files` (path inside → path here, or bytes) as an addition to a RAM disk."""
    folder = work / "overlay"
    shutil.rmtree(folder, ignore_errors=True)
    for inside, content in files.items():
        path = folder / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            shutil.copyfile(content, path)
        path.chmod(0o755)
    _cpio(folder, out)


def with_overlay(base, files, work, out):
    """A RAM disk of `base` and, on top, `files`: the kernel unpacks one archive after the other."""
    added = work / "overlay.cpio"
    overlay(files, work, added)
    with open(out, "wb") as file:
        for part in (base, added):
            with open(part, "rb") as source:
                shutil.copyfileobj(source, file)
            file.write(b"\0" * (-file.tell() % 512))
    added.unlink()


def ensure(packs, work):
    """Builds what was not built with the same files before. Returns dom0's RAM disk."""
    for built in (VSNOOP, VSNOOP_XEN):
        if not built.exists():
            raise packages.Error(f"there is no {built}: run make build")
    work.mkdir(parents=True, exist_ok=True)
    this = HERE / "image.py"
    load = [*sorted((TOP / "tools/load").glob("*.h")), *(TOP / "tools").glob("*.h"), *LOAD_PARTS]
    _once(work / "programs.done", [this, HERE / "load.cc", HERE / "cputime.c", *load], packs,
          lambda: programs(work))
    _once(work / "netfronts.done", [this, HERE / ODD_NETFRONT, HERE / HOSTILE_NETFRONT], packs,
          lambda: netfronts(packs, work))
    inside = [HERE / name for name in ("guest-init", "dom0-init", "dom0-lib.sh", "vif-plain")]
    _once(work / "image.done", [work / "programs.done", work / "netfronts.done", *inside, VIF_VSNOOP,
                                VSNOOP_MIGRATE, VSNOOP, VSNOOP_XEN], packs, lambda: build(packs, work))
    return work / "dom0.cpio"


def _once(mark, sources, packs, make):
    """Calls `make` unless `mark` says that it was done with the same `sources` and kernel."""
    digest = hashlib.sha256(packs.release.encode())
    for source in sources:
        digest.update(source.read_bytes())
    if not mark.exists() or mark.read_text() != digest.hexdigest():
        mark.unlink(missing_ok=True)
        make()
        mark.write_text(digest.hexdigest())


def programs(work):
    """Compiles what runs inside, without shared libraries: PROGRAMS."""
    load, cputime = [work / name for name in PROGRAMS]
    packages.run(["g++", "-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s",
                  f"-I{TOP}", "-DFMT_HEADER_ONLY", "-o", load, HERE / "load.cc",
                  *LOAD_PARTS, "-pthread"])
    packages.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s", "-o", cputime,
                  HERE / "cputime.c", *(f"-lxen{name}" for name in (
                      "ctrl", "call", "foreignmemory", "evtchn", "gnttab", "devicemodel",
                      "toolcore", "toollog", "hypfs"))])


def netfronts(packs, work):
    """Builds the two frontends that give trouble: work/netfronts/*.ko."""
    folder = work / "netfronts"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    packages.run(["tar", "-C", folder, "--strip-components=3", "--occurrence=1", "--wildcards", "-xf",
                  packs.source, "*/drivers/net/xen-netfront.c"])
    packages.run(["patch", "--directory", folder, "--fuzz=0", "--quiet", "--strip=1",
                  f"--input={HERE / ODD_NETFRONT}"])
    (folder / "xen-netfront.c").rename(folder / "odd-netfront.c")
    shutil.copyfile(HERE / HOSTILE_NETFRONT, folder / HOSTILE_NETFRONT)
    (folder / "Kbuild").write_text("obj-m := odd-netfront.o hostile-netfront.o\n")
    packages.run(["make", "-C", packs.headers, f"M={folder}", "modules"])
    for module in folder.glob("*.ko"):
        packages.run(["strip", "-g", module])


def build(packs, work):
    """Makes work/guest.cpio and work/dom0.cpio. The programs go into both, the frontends to the
    guests."""
    guest = work / "guest"
    _skeleton(guest)
    _copy_modules(packs, GUEST_MODULES, guest)
    for module in (work / "netfronts").glob("*.ko"):
        shutil.copy2(module, guest / module.name)
    shutil.copy2(HERE / "guest-init", guest / "init")
    for name in PROGRAMS:
        shutil.copy2(work / name, guest / "bin" / name)
    _with_host_programs(guest, packs, ("tc", "ethtool", "xtables-legacy-multi"))
    _cpio(guest, work / "guest.cpio")

    dom0 = work / "dom0"
    _skeleton(dom0)
    _copy_modules(packs, DOM0_MODULES, dom0)
    shutil.copy2(HERE / "dom0-init", dom0 / "init")
    shutil.copy2(HERE / "dom0-lib.sh", dom0 / "lib/testbed.sh")
    (dom0 / "etc/xen/scripts").mkdir(parents=True)
    shutil.copy2(HERE / "vif-plain", dom0 / "etc/xen/scripts/vif-plain")
    shutil.copy2(VIF_VSNOOP, dom0 / "etc/xen/scripts/vif-vsnoop-plain")
    (dom0 / "etc/vsnoop").mkdir()
    (dom0 / "etc/xen/xl.conf").write_text('run_hotplug_scripts=1\nautoballoon="off"\n')
    for name in PROGRAMS:
        shutil.copy2(work / name, dom0 / "bin" / name)
    xen_bin = dom0 / packs.xen_bin.relative_to(packs.root)
    xen_bin.mkdir(parents=True)
    xen = [packs.xen_bin / name for name in XEN_PROGRAMS]
    for program in xen:
        shutil.copy2(program, xen_bin / program.name)
        (dom0 / "bin" / program.name).symlink_to("/" + str(xen_bin.relative_to(dom0)) + "/" +
                                                 program.name)
    # xenstore is one program by many names.
    store = [packs.root / "usr/bin" / name for name in XENSTORE_PROGRAMS]
    store = [path for path in store if path.exists()]
    for program in store:
        shutil.copy2(program, dom0 / "bin" / program.name)
    shutil.copy2(VSNOOP_MIGRATE, dom0 / "bin/vsnoop-migrate")
    for built in (VSNOOP, VSNOOP_XEN):
        packages.run(["strip", "-o", dom0 / "bin" / built.name, built])
    _with_host_programs(dom0, packs, HOST_PROGRAMS, extra=[*xen, *store, VSNOOP, VSNOOP_XEN])
    (dom0 / "boot").mkdir()
    shutil.copy2(packs.vmlinux, dom0 / "boot/vmlinux")
    shutil.copy2(work / "guest.cpio", dom0 / "boot/guest.cpio")
    _cpio(dom0, work / "dom0.cpio")


def _with_host_programs(to, packs, names, extra=()):
    paths = [(name, _which(name)) for name in names]
    for name, path in paths:
        shutil.copy2(path, to / "sbin" / name)
    for name, path in _libraries([path for _, path in paths] + list(extra), packs.root).items():
        folder = to / ("lib64" if name.startswith("ld-linux") else "lib/x86_64-linux-gnu")
        shutil.copy2(path, folder / name)
    (to / "usr/lib/x86_64-linux-gnu").mkdir(parents=True, exist_ok=True)
