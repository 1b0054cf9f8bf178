"""interrupt.py INVENTORY [SEED]: kills site.yml at three random moments, each on new hosts, and runs it again.

Compares the end with a whole run's. The same end means: the same files with the same modes, owners and content in what
the roles own (of keys, certificates and what holds their checksum only the names and modes, since they are made anew),
the same services running, and at last changed=0.
"""

from __future__ import annotations

import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOG = pathlib.Path(os.environ["LAB"]) / "interrupt.log"
HOSTS = ("site-gateway1", "site-inference1", "site-inference2")
FINGERPRINT = r"""
cd /
find etc/llm etc/ollama etc/nginx etc/systemd/system opt/ollama var/lib/ollama/models 2>/dev/null |
  sort | while read -r f; do
  case $f in
    etc/llm/*|etc/nginx/nginx.conf|etc/ollama/deployed|*/metadata/*) sum=anew ;;
    *) sum=$([ ! -f "$f" ] || sha256sum <"$f" | cut -c1-16) ;;
  esac
  echo "$(stat -c '%A %U:%G' "$f") $f $(readlink "$f") $sum"
done
for unit in ollama nginx; do echo "$unit $(systemctl is-active $unit) $(systemctl is-enabled $unit 2>/dev/null)"; done
"""


def fingerprint() -> dict[str, set[str]]:
    return {
        host: set(
            subprocess.run(
                ["podman", "exec", "-i", host, "sh"], input=FINGERPRINT, check=True, capture_output=True, text=True
            ).stdout.splitlines()
        )
        for host in HOSTS
    }


def kill_all(pid: int) -> None:
    """kill -9 of a process and all below it: Ansible's workers have sessions of their own."""
    below = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(pid, signal.SIGKILL)
    for child in below:
        try:
            kill_all(int(child))
        except (FileNotFoundError, ProcessLookupError):
            pass  # it ended by itself meanwhile


def play(inventory: str, *playbooks: str, kill_at_task: int = 0) -> str:
    """Run playbooks and give the output.

    With kill_at_task, kill -9 the whole run some tenths of a second into its n-th task.
    """
    command = ["ansible-playbook", "-i", inventory, *playbooks]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    lines, tasks = [], 0
    assert process.stdout
    for line in process.stdout:
        lines.append(line)
        tasks += line.startswith("TASK [")
        if kill_at_task and tasks == kill_at_task:
            time.sleep(random.uniform(0, 0.8))
            kill_all(process.pid)
            break
    code = process.wait()
    output = "".join(lines)
    LOG.write_text(output)
    if not kill_at_task and code:
        sys.exit(f"{' '.join(command)} ended with {code}:\n{output[-4000:]}")
    return output


def main() -> int:
    inventory = sys.argv[1]
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    random.seed(seed)
    # The reference is a whole run that found nothing to do; it also tells how many tasks there are.
    tasks = play(inventory, "site.yml").count("TASK [")
    wanted = fingerprint()
    print(f"seed {seed}, {tasks} tasks")
    for low, high in ((0.15, 0.4), (0.4, 0.7), (0.7, 0.95)):
        subprocess.run(["podman", "rm", "-f", "-v", "-t", "0", *HOSTS], check=True, capture_output=True)
        play(inventory, "molecule/shared/create.yml", "molecule/shared/prepare.yml")
        moment = random.randint(int(tasks * low), int(tasks * high))
        name = re.findall(r"TASK \[(.*?)\]", play(inventory, "site.yml", kill_at_task=moment))[-1]
        play(inventory, "site.yml")
        got = fingerprint()
        for host in HOSTS:
            if got[host] != wanted[host]:
                lost, new = sorted(wanted[host] - got[host]), sorted(got[host] - wanted[host])
                sys.exit(f"killed in task {moment} ({name}): {host} ended otherwise\n  lost: {lost}\n  new: {new}")
        print(f"killed in task {moment} ({name}): the next run ended as a whole one does")
    recap = play(inventory, "site.yml")
    if re.search(r"changed=[1-9]", recap):
        sys.exit("a run after that still changed something:\n" + recap[-2000:])
    print("a run after that: changed=0")
    return 0


if __name__ == "__main__":
    sys.exit(main())
