"""What the role leaves on the host after check, converge, a refused checksum, a third version and pruning."""

from __future__ import annotations


def test_linked_version_runs(host):
    assert host.check_output("/opt/tool/current/bin/tool") == "2.0"


def test_pruning_keeps_the_linked_and_the_newest(host):
    assert host.check_output("ls -A /opt/tool | sort").split() == ["2.0", "3.0", "current"]


def test_nothing_of_a_cut_off_unpacking_remains(host):
    assert not host.file("/opt/tool/3.0/half").exists
    assert host.check_output("/opt/tool/3.0/bin/tool") == "3.0"


def test_files_belong_to_root(host):
    assert host.check_output("find /opt/tool ! -user root -o ! -group root") == ""


def test_version_notes_its_checksums(host):
    assert len(host.file("/opt/tool/3.0/.artifact").content_string.strip()) == 64
