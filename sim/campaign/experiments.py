# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The experiments of the campaign. Each has a program and parts, which are run independently of each
other: the columns that a part adds to its rows, and its arguments."""

MAIN = ("netback-2010", "ring-2010", "netback", "ring", "hold", "seth", "split-proxy", "outsourcing",
        "leulo", "linsock", "native")
FEW = ("netback", "ring", "hold", "outsourcing")
# A guest that gives its processor up the moment it is idle is the extreme: it is never shown without
# one that lingers.
GUESTS = {"io": "--guestKinds=io", "io-linger": "--guestKinds=io --linger=200us",
          "busy": "--guestKinds=busy"}
SCHEDULERS = {
    "rr-30ms": "--scheduler=rr --slice=30ms",
    "rr-5ms": "--scheduler=rr --slice=5ms",
    "rr-1ms": "--scheduler=rr --slice=1ms",
    "credit-30ms": "--scheduler=credit --slice=30ms",
    "credit-5ms": "--scheduler=credit --slice=5ms",
    "credit-capped": "--scheduler=credit --slice=30ms --cap=33",
    "credit2": "--scheduler=credit2",
    "rtds-10ms": "--scheduler=rtds --slice=30ms",
    "dedicated": "--scheduler=dedicated",
}


def _transfer(connection, sizes, repeats, vms):
    return {f"{name}-{guest}": ({}, f"--architectures={name} --vmsList={vms} {options} "
                                    f"--connections={connection} --sizes={sizes} "
                                    f"--repeats={repeats}")
            for name in MAIN for guest, options in GUESTS.items()}


def _schedulers():
    return {f"{label}-{guest}": (
                {"setting": label}, f"--architectures={','.join(FEW)} {options} {kind} "
                                    "--sizes=100000,1000000 --repeats=6")
            for label, options in SCHEDULERS.items() for guest, kind in GUESTS.items()}


def _loss():
    parts = {}
    for what in ("loss", "reorder"):
        for rate in (0, 0.0001, 0.001, 0.01):
            for name, sack in (("netback", True), ("hold", False), ("hold", True)):
                parts[f"{what}-{rate}-{name}-{int(sack)}"] = (
                    {"impairment": what, "rate": rate,
                     "variant": name if sack else "hold, no early SACK"},
                    f"--architectures={name} --guestKinds=io,busy --{what}={rate} "
                    "--sizes=1000000,10000000 --repeats=12 "
                    f"--ns3::SnoopEngine::EarlySack={int(sack)}")
    return parts


def _room():
    parts = {}
    for slots in (64, 256, 1024, 4096):
        for name in ("netback-2010", "ring-2010"):
            parts[f"{name}-{slots}"] = (
                {"room_bytes": slots * 1448},
                f"--architectures={name} --guestKinds=io,busy --sizes=10000000 --repeats=6 "
                f"--ns3::Vif::RingSlots={slots}")
    for budget in (1 << 18, 1 << 20, 1 << 22, 1 << 23, 1 << 25):
        parts[f"hold-{budget}"] = (
            {"room_bytes": budget},
            "--architectures=hold --guestKinds=io,busy --sizes=10000000 --repeats=6 "
            f"--ns3::SnoopEngine::Budget={budget}")
    return parts


EXPERIMENTS = {
    "transfer": ("vsnoop-transfer", _transfer("established", "10000,100000,1000000,10000000", 6,
                                              "1,2,3,5")),
    "fresh": ("vsnoop-transfer", _transfer("fresh", "10000,100000,1000000,10000000", 6, "3")),
    "long": ("vsnoop-transfer", {name: ({}, f"--architectures={name} --guestKinds=io,busy "
                                            "--sizes=100000000 --repeats=2") for name in FEW}),
    "schedulers": ("vsnoop-transfer", _schedulers()),
    "loss": ("vsnoop-transfer", _loss()),
    "room": ("vsnoop-transfer", _room()),
    "cost": ("vsnoop-bulk", {name: ({}, f"--architectures={name}")
                             for name in ("native", "seth", "netback", "ring", "hold",
                                          "split-proxy", "outsourcing", "leulo")}),
    "fast": ("vsnoop-bulk", {name: ({}, f"--architectures={name} --modes=receive --rate=10Gbps "
                                        "--receiveBuffer=1000000")
                             for name in ("netback", "hold", "seth", "outsourcing",
                                          "windows-device", "linsock", "native")}),
    "intervm": ("vsnoop-bulk", {name: ({}, f"--architectures={name} --modes=intervm "
                                           "--scheduler=dedicated --receiveBuffer=500000 "
                                           "--duration=50ms")
                                for name in ("netback", "seth", "hold", "outsourcing", "leulo",
                                             "windows-device", "linsock")}),
    "incast": ("vsnoop-incast", {f"{name}-{guest}": ({}, f"--architectures={name} --guest={guest} "
                                                         "--peersList=1,4,16,64 --repeats=4")
                                 for name in (*FEW, "split-proxy") for guest in ("io", "busy")}),
    "web": ("vsnoop-web", {f"{name}-{linger}": ({}, f"--architectures={name} --linger={linger}us")
                           for name in ("netback", "ring", "hold", "seth", "split-proxy",
                                        "outsourcing", "leulo") for linger in (0, 200)}),
    "mpi": ("vsnoop-mpi", {f"{name}-{linger}": ({}, f"--architectures={name} --rounds=10 "
                                                    f"--linger={linger}us")
                           for name in (*FEW, "leulo") for linger in (0, 200)}),
    "migrate": ("vsnoop-migrate", {name: ({}, f"--architectures={name}")
                                   for name in ("netback", "ring", "hold")}),
    "scale": ("vsnoop-scale", {f"{name}-{hosts}": ({}, f"--architecture={name} --hosts={hosts} "
                                                       "--duration=100ms")
                               for name in ("netback", "hold") for hosts in (1, 10, 100)}),
}
# Arguments on top, for campaigns of less than full size: an hour's, and one in which everything is
# run but little measured.
USUAL = {"vsnoop-transfer": "--repeats=2", "vsnoop-incast": "--repeats=2"}
QUICK = {"vsnoop-transfer": "--repeats=1", "vsnoop-incast": "--repeats=1",
         "vsnoop-bulk": "--duration=20ms", "vsnoop-web": "--duration=5s --clientsList=10",
         "vsnoop-mpi": "--rounds=2", "vsnoop-scale": "--duration=5ms --hosts=2"}
SIZES = {"full": {}, "usual": USUAL, "quick": QUICK}
