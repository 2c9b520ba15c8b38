#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Many small requests and answers: PostgreSQL in the guest, pgbench in the peer."""

import pathlib
import re
import shutil

import harness
from harness import GUEST, PEER, check, wait_for

USER = "postgres"
CLIENTS = 8


def program(name):
    """A program of the newest PostgreSQL here."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"),
                   key=lambda path: int(path.parts[4].split(".")[0]))
    if not found:
        raise harness.Skip(f"there is no PostgreSQL with {name} (packages postgresql, "
                           "postgresql-contrib)")
    return found[-1]


def transactions(bed):
    programs = {name: program(name) for name in ("initdb", "postgres", "pgbench", "psql")}
    sockets = bed.directory / "sql"
    sockets.mkdir()
    shutil.chown(sockets, USER)
    data = sockets / "data"

    def as_postgres(name, *arguments, namespace=bed.guest):
        return bed.run(namespace, programs[name], *arguments, user=USER, cwd=sockets)

    as_postgres("initdb", "--auth=trust", "--no-sync", "--no-instructions", "-D", data).succeed(40)
    with open(data / "pg_hba.conf", "a", encoding="ascii") as file:
        file.write(f"host all all {PEER}/32 trust\n")
    bed.run(bed.guest, programs["postgres"], "-D", data, "-k", sockets, "-c", "fsync=off",
            "-c", f"listen_addresses={GUEST}", "-c", "shared_buffers=16MB",
            user=USER, cwd=sockets, parent_death="QUIT")
    local = ["-h", sockets, "-U", USER]

    def ask(sql):
        return as_postgres("psql", *local, "-Atqc", sql, "postgres")

    def answers():
        child = ask("select 1")
        return child.wait(10) == 0
    wait_for(answers, "PostgreSQL answers", 20)
    as_postgres("pgbench", *local, "--initialize", "--quiet", "--no-vacuum", "postgres").succeed(20)

    live = bed.live(*harness.CONTENDED)
    said = as_postgres("pgbench", "-h", GUEST, "-U", USER, "--no-vacuum", "--time=4",
                       f"--client={CLIENTS}", "--jobs=2", "--max-tries=10", "postgres",
                       namespace=bed.peer).succeed(30)
    done = int(re.search(r"transactions actually processed: (\d+)", said)[1])
    check(re.search(r"failed transactions: 0 ", said), f"transactions failed:\n{said}")
    check(done >= CLIENTS, f"only {done} transactions in 4 s:\n{said}")
    sums = ask("select (select sum(abalance) from pgbench_accounts), (select sum(delta) from "
               "pgbench_history), (select count(*) from pgbench_history)").succeed(10).strip()
    accounts, history, rows = map(int, sums.split("|"))
    check(accounts == history and rows == done,
          f"the books do not balance: accounts {accounts}, history {history}, {rows} rows, "
          f"{done} transactions")
    # Each transaction is seven requests.
    live.stop().check_offloaded(early_acks=done * 3)
    return f"{done} transactions"


harness.run([transactions], 60)
