"""Who gets in, by which way, and who does not: asked of sshd, PAM, sudo and of ssh-audit as another host sees them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest

SUITES = {"bookworm": "Hardened Debian 12", "trixie": "Hardened Debian 13"}
WRONG, RIGHT = "wrong password", "Tr0ub4dor&3-horse-staple"
KEY = f"{os.environ['LAB']}/id_ed25519"
SSH = ["ssh", "-i", KEY, *(f"-o{option}" for option in ("ControlPath=none", "BatchMode=yes", "LogLevel=ERROR"))]
SSH += ["-oUserKnownHostsFile=/dev/null", "-oStrictHostKeyChecking=no"]


def suite(host):
    return host.system_info.codename


def address(host):
    return host.interface("eth0").addresses[0]


def ssh(host, user, *command):
    return subprocess.run([*SSH, f"{user}@{address(host)}", *command], capture_output=True, text=True, check=False)


def audit(*arguments):
    program = shutil.which("ssh-audit")
    assert program, "ssh-audit is not installed on the control node (tests/requirements.txt)"
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def attempt(host, user, password):
    """Whether this password opens a session, as PAM says to any program."""
    return host.run(f"printf '%s\\n' '{password}' | pamtester other {user} authenticate acct_mgmt").rc == 0


def failures(host, user):
    """Wrong passwords that count."""
    return len(re.findall(r"\sV$", host.check_output(f"faillock --user {user}"), re.MULTILINE))


@pytest.fixture
def locked(host):
    """An account whose password was given wrong until it was locked."""

    def lock(user):
        host.check_output(f"faillock --user {user} --reset")
        wrong = f"printf '%s\\n' '{WRONG}' | pamtester other {user} authenticate"
        host.run(f"for i in 1 2 3; do {wrong} & done; wait")
        assert failures(host, user) == 3

    yield lock
    for user in ("lockme", "deploy", "root"):
        host.run(f"faillock --user {user} --reset")


@pytest.fixture(scope="module", autouse=True)
def passwords(host):
    """Passwords of the accounts that the side effects made."""
    # usermod stores a hash without asking PAM, which would not let a password come twice in two runs.
    for user in ("lockme", "deploy"):
        host.check_output(f"usermod --password \"$(openssl passwd -6 '{RIGHT}')\" {user}")


def test_ssh_audit_finds_no_failure(host):
    found = audit("--json", "--skip-rate-test", address(host))
    report = json.loads(found.stdout)
    failures = [
        (kind, row["algorithm"], row["notes"]["fail"])
        for kind in ("kex", "key", "enc", "mac")
        for row in report[kind]
        if row["notes"].get("fail")
    ]
    assert not failures
    assert len(report["kex"]) > 2


def test_ssh_audit_policy_for_the_distribution_passes(host):
    listed = re.findall(rf'"({SUITES[suite(host)]} \(version (\d+)\))"', audit("--list-policies").stdout)
    policy = max(listed, key=lambda each: int(each[1]))[0]
    found = audit("--policy", policy, address(host))
    assert "Passed" in found.stdout, found.stdout
    assert found.returncode == 0


def test_sshd_takes_what_it_is_given_for_the_deployer(host):
    settings = host.check_output("sshd -T -C user=root,host=x,addr=10.77.2.1").splitlines()
    assert {
        "permitrootlogin without-password",
        "passwordauthentication no",
        "kbdinteractiveauthentication no",
        "permitemptypasswords no",
        "disableforwarding yes",
        "maxstartups 10:30:60",
        "persourcemaxstartups 5",
        "logingracetime 60",
        "modulifile /etc/ssh/moduli-3072",
    } <= set(settings)


def test_a_file_beside_it_cannot_weaken_sshd(host):
    try:
        host.check_output("echo PasswordAuthentication yes > /etc/ssh/sshd_config.d/50-cloud-init.conf")
        assert "passwordauthentication no" in host.check_output("sshd -T").splitlines()
    finally:
        host.check_output("rm /etc/ssh/sshd_config.d/50-cloud-init.conf")


def test_no_modulus_below_3072_bits_is_left(host):
    sizes = host.check_output("awk '$1 ~ /^[0-9]+$/ {print $5}' /etc/ssh/moduli-3072").split()
    assert len(sizes) > 20
    assert min(map(int, sizes)) >= 3071


def test_passwords_open_no_session_over_ssh(host):
    found = subprocess.run(
        [*SSH, "-oPubkeyAuthentication=no", f"lockme@{address(host)}", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 255
    assert "Permission denied (publickey)" in found.stderr


def test_who_is_in_no_allowed_group_stays_out(host):
    host.check_output("install -d -o lockme -m 0700 ~lockme/.ssh")
    host.check_output("install -o lockme -m 0600 /root/.ssh/authorized_keys ~lockme/.ssh/")
    assert ssh(host, "lockme", "true").returncode == 255
    assert ssh(host, "deploy", "id", "-un").stdout == "deploy\n"


def test_wrong_passwords_lock_the_password(host, locked):
    assert attempt(host, "lockme", RIGHT)
    locked("lockme")
    assert not attempt(host, "lockme", RIGHT)
    host.check_output("faillock --user lockme --reset")
    assert attempt(host, "lockme", RIGHT)


@pytest.mark.parametrize("user", ["deploy", "root"])
def test_wrong_passwords_never_lock_a_key(host, locked, user):
    locked(user)
    assert ssh(host, user, "sudo", "-n", "id", "-u").stdout == "0\n"
    # The login by key also put the count back.
    assert failures(host, user) == 0


@pytest.mark.parametrize("user", ["deploy", "root"])
def test_an_old_password_never_stops_a_key(host, user):
    days = host.check_output(f"getent shadow {user}").split(":")[2]
    try:
        host.check_output(f"chage --lastday 2020-01-01 --maxdays 365 {user}")
        assert ssh(host, user, "sudo", "-n", "id", "-u").stdout == "0\n"
    finally:
        host.check_output(f"chage --lastday {days} {user}")


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("Sh0rt-but-good", "shorter than 15"),
        ("onlysmallletters-1", "uppercase"),
        ("Aa1-aaaaaaaaaaaaaaaa", "same characters|consecutive"),
        ("Lockme-lockme-1234-x", "user name|sequence"),
    ],
)
def test_weak_passwords_are_refused(host, password, reason):
    found = host.run(f"echo 'lockme:{password}' | chpasswd")
    assert found.rc != 0
    assert re.search(reason, found.stdout + found.stderr), found


def test_a_good_password_is_hashed_dearly_and_not_taken_again(host):
    # New each time, and no two digits side by side, which could be a sequence.
    good = "Gx!" + "q".join(host.check_output("date +%s")[-6:]) + "-vBn#Qe"
    host.check_output(f"echo 'lockme:{good}' | chpasswd")
    cost = {"bookworm": "F", "trixie": "C"}[suite(host)]
    assert host.check_output("getent shadow lockme").split(":")[1].startswith(f"$y$j{cost}")
    assert host.run(f"echo 'lockme:{good}' | chpasswd").rc != 0


def test_su_is_for_root_only(host):
    assert host.run("su deploy -c 'id -un'").stdout == "deploy\n"
    refused = host.run(f"su deploy -c \"printf '%s\\n' '{RIGHT}' | su lockme -c id\"")
    assert refused.rc != 0
    assert "uid=" not in refused.stdout


def test_sudo_needs_a_terminal_but_for_the_deployer(host):
    assert "use_pty" in host.check_output("sudo -l -U keyless")
    assert "must have a tty" in host.run("setsid --wait runuser -u keyless -- sudo -n true").stderr
    assert ssh(host, "deploy", "sudo", "-n", "id", "-u").stdout == "0\n"
    assert "COMMAND=" in host.check_output("tail -n 2 /var/log/sudo.log")


def test_system_accounts_have_no_shell_and_no_password(host):
    shells = [line.split(":") for line in host.check_output("getent passwd").splitlines()]
    assert [row[0] for row in shells if int(row[2]) < 1000 and row[6].endswith("sh")] == ["root"]
    hashes = [line.split(":") for line in host.check_output("getent shadow").splitlines()]
    assert not [row[0] for row in hashes if row[1] == ""]


def test_shells_end_when_idle_and_mask_their_files(host):
    found = host.run("bash --login -c 'umask; echo $TMOUT; TMOUT=0'")
    assert found.stdout.split() == [{"bookworm": "0077", "trixie": "0027"}[suite(host)], "600"]
    assert "readonly" in found.stderr
    assert host.run("sh -lc true").stderr == ""


def test_only_root_has_jobs(host):
    assert host.file("/etc/cron.allow").content_string == "root\n"
    assert not host.file("/etc/cron.deny").exists
    jobs = host.file("/etc/cron.d")
    assert not jobs.exists or jobs.mode == 0o700


def test_the_banner_comes_before_the_login(host):
    found = subprocess.run(
        [SSH[0], "-oLogLevel=INFO", *SSH[1:], f"deploy@{address(host)}", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "All activity may be monitored" in found.stderr


def test_sandboxed_services_still_work(host, exposure):
    if not host.package("rsyslog").is_installed:
        pytest.skip("rsyslog is not on this host")
    host.check_output("logger --tag sandbox 'a line from the test'")
    host.check_output(
        "for i in 1 2 3 4 5; do grep -q 'a line from the test' /var/log/syslog && exit 0; sleep 1; done; exit 1"
    )
    assert exposure("rsyslog.service") <= 4.0
