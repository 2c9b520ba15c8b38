# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One boot: Xen, dom0 and a scenario in an emulated machine, in virtual time."""

import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import threading
import time

MEMORY_MB = 2304
DOM0_MB = 896
RESULT_MB = 256
EMULATOR_MB = 512  # what QEMU takes beside the memory of the machine it emulates

# The last words of a machine.
DEAD = re.compile(rb"Hardware Dom0 (crashed|shutdown: (reboot|watchdog))|^\(XEN\) Panic on CPU")

_running = set()


def at_a_time():
    """How many boots this computer bears at once: one a processor, if there is memory for them."""
    free = re.search(r"^MemAvailable: +(\d+) kB$", pathlib.Path("/proc/meminfo").read_text(),
                     re.MULTILINE)
    return max(1, min(len(os.sched_getaffinity(0)),
                      int(free[1]) // 1024 // (MEMORY_MB + EMULATOR_MB)))


def stop_all():
    """Ends the boots of other threads, which then fail."""
    for process in list(_running):
        process.kill()


class Failure(Exception):
    """A boot did not do what it should; the text says where to look."""


def boot(packs, initrd, folder, *, kernel=None, pcpus=3, scheduler="credit", dom0_vcpus=1, seed=1,
         timeout=3000, on_line=None):
    """Boots and waits for the machine to switch itself off. `folder` (absolute) receives console.log, a
    socket of QEMU's monitor and, in results/, what the scenario left in /results of dom0. Returns the
    seconds it took; Failure if it does not end in time or leaves no results. `kernel`: dom0's, if not
    Debian's. `on_line` is called with each line of the console."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "results", ignore_errors=True)
    disk = folder / "disk"
    with open(disk, "wb") as file:
        file.truncate(RESULT_MB << 20)
    xen = (f"dom0_mem={DOM0_MB}M,max:{DOM0_MB}M dom0_max_vcpus={dom0_vcpus} dom0_vcpus_pin "
           f"sched={scheduler} com1=115200,8n1 console=com1 spec-ctrl=no xpti=no "
           f"iommu=no-intremap dom0-iommu=passthrough")
    dom0 = "console=hvc0 earlyprintk=xen loglevel=6 mitigations=off tsc=nowatchdog"
    if kernel:
        dom0 += " slub_debug=FZP"  # red zones and poison: a write to freed memory is found
    command = [
        "setpriv", "--pdeathsig", "KILL", packs.qemu,
        "-L", packs.qemu.parent.parent / "share/qemu", "-L", packs.qemu.parent.parent / "share/seabios",
        # Time is virtual, 2 ns an instruction, on one thread. Of translated code 256 MB are kept: with
        # QEMU's own 1 GB it spent ten minutes invalidating code in the last step of the case `gone`.
        "-accel", "tcg,thread=single,tb-size=256", "-icount", "shift=1,sleep=off",
        "-rtc", "base=2024-01-01T00:00:00,clock=vm", "-seed", str(seed),
        # A processor runs until the next timer before another one does. This buffer, on a hub
        # without peers, sets one every 200 us.
        "-netdev", "hubport,id=tick,hubid=9",
        "-object", "filter-buffer,id=slice,netdev=tick,queue=all,interval=200",
        # QEMU's icount does not bear x2APIC. The IOMMU is there because libxl gives away no
        # PCI device without one.
        "-machine", "q35", "-device", "intel-iommu,intremap=off",
        "-cpu", "max,-svm,-la57,-pku,-smap,-x2apic", "-smp", str(pcpus), "-m", str(MEMORY_MB),
        "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
        # For a look at one that hangs: info registers -a
        "-monitor", "unix:monitor,server=on,wait=off",
        "-drive", f"file={disk},if=none,id=disk,format=raw,cache=unsafe",
        "-device", "nvme,drive=disk,serial=results",
        # Two cards on one wire: dom0's, and that of guest g9.
        "-netdev", "hubport,id=lan0,hubid=0", "-netdev", "hubport,id=lan1,hubid=0",
        "-device", "e1000e,netdev=lan0,addr=10,mac=00:16:3e:01:00:01,romfile=",
        "-device", "e1000e,netdev=lan1,addr=11,mac=00:16:3e:01:00:02,romfile=",
        "-kernel", str(packs.xen), "-append", xen,
        "-initrd", f"{kernel or packs.vmlinux} {dom0},{initrd}"]
    started = time.monotonic()
    dead = None
    with open(folder / "console.log", "wb") as log, open(folder / "qemu.log", "wb") as errors:
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=errors, cwd=folder)
        late = threading.Event()
        alarm = threading.Timer(timeout, lambda: (late.set(), process.kill()))
        alarm.daemon = True
        alarm.start()
        _running.add(process)
        try:
            for line in process.stdout:
                log.write(line)
                log.flush()
                if DEAD.search(line):
                    dead = line.decode(errors="replace").strip()
                    break
                if on_line:
                    on_line(line.decode(errors="replace").rstrip())
            if not dead:
                process.wait()
        finally:
            alarm.cancel()
            _running.discard(process)
            if process.poll() is None:
                process.kill()
                process.wait()
    if dead:
        raise Failure(f"{dead}; see {folder}/console.log")
    took = time.monotonic() - started
    if late.is_set():
        raise Failure(f"not finished after {timeout} s; see {folder}/console.log")
    if process.returncode != 0:
        raise Failure(f"qemu ended with status {process.returncode}; see {folder}/qemu.log")
    try:
        with tarfile.open(disk) as tar:
            tar.extractall(folder / "results")
    except tarfile.TarError as error:
        raise Failure(f"no results ({error}); see {folder}/console.log") from None
    disk.unlink()
    return took
