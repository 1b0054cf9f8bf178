"""drill.py INVENTORY HOST ADDRESS watch|kill|reboot JSON: cuts the deployer off by a run of the role.

Prints the seconds until ssh of the host answers again by itself, and what the run said. C(watch) lets the run come to
its end, which must be a failure; C(kill) kills it before it confirms; with C(reboot) the host loses its power as well.
"""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

SCENARIO = pathlib.Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
LIMIT_SECONDS = 150


def answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), 3) as one:  # a busy machine is slow, and not cut off
            return one.recv(4) == b"SSH-"
    except OSError:
        return False


def wait(address: str, wanted: bool, run: subprocess.Popen[str] | None = None) -> float:
    """Seconds until it answers, or no longer does; a run that is given must still go on then."""
    start = time.monotonic()
    while answers(address) is not wanted:
        if run and run.poll() is not None:
            raise SystemExit("the run was over before it cut anything off")
        if time.monotonic() - start > LIMIT_SECONDS:
            raise SystemExit(f"{address} {'does not answer' if wanted else 'still answers'} after {LIMIT_SECONDS} s")
        time.sleep(0.2)
    return time.monotonic() - start


def kill_all(pid: int) -> None:
    """kill -9 of a process and all below it: Ansible's workers have sessions of their own."""
    below = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(pid, signal.SIGKILL)
    for child in below:
        try:
            kill_all(int(child))
        except (FileNotFoundError, ProcessLookupError):
            pass  # it ended by itself meanwhile


def main(inventory: str, host: str, address: str, how: str, variables: str) -> None:
    command = ["ansible-playbook", f"--inventory={inventory}", f"--limit={host}", f"--extra-vars={variables}"]
    with tempfile.TemporaryFile("w+") as said:
        run = subprocess.Popen([*command, str(SCENARIO / "converge.yml")], stdout=said, stderr=said, text=True)
        try:
            wait(address, False, run)
            if how != "watch":
                kill_all(run.pid)
            if how == "reboot":
                subprocess.run(["podman", "kill", "-s", "KILL", host], check=True, stdout=subprocess.DEVNULL)
                subprocess.run(["podman", "start", host], check=True, stdout=subprocess.DEVNULL)
            print(f"{wait(address, True):.1f}")
            if run.wait() == 0:
                raise SystemExit("the run did not fail")
        finally:
            if run.poll() is None:
                kill_all(run.pid)
            said.seek(0)
            print(said.read())


main(*sys.argv[1:])
