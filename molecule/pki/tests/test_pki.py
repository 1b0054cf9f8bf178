"""Certificates as a client sees them, after renewal and reboot."""

from __future__ import annotations

import os
import pathlib
import socket
import ssl

import pytest

AUTHORITY = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "pki"


def test_client_that_trusts_the_authority_gets_through(host):
    name = host.check_output("hostname")
    address = host.interface("eth0").addresses[0]
    context = ssl.create_default_context(cafile=str(AUTHORITY / "ca.crt"))
    for expected in (name, address):
        with (
            socket.create_connection((address, 8443), 10) as raw,
            context.wrap_socket(raw, server_hostname=expected) as tls,
        ):
            assert tls.getpeercert()["subject"] == ((("commonName", name),),)


def test_client_with_another_name_is_refused(host):
    context = ssl.create_default_context(cafile=str(AUTHORITY / "ca.crt"))
    with (
        socket.create_connection((host.interface("eth0").addresses[0], 8443), 10) as raw,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(raw, server_hostname="other")


def test_the_system_trusts_the_authority(host):
    script = (
        "import ssl,socket; ssl.create_default_context()"
        ".wrap_socket(socket.create_connection(('127.0.0.1',8443)),server_hostname='%s')"
    )
    host.run_test(f'python3 -c "{script % host.check_output("hostname")}"')


def test_private_keys_are_private(host):
    for key in host.check_output("ls /etc/llm/pki/*.key").split():
        file = host.file(key)
        assert (file.user, file.mode) == ("root", 0o600)


def test_private_keys_differ_between_hosts_and_never_leave(host):
    assert not list(AUTHORITY.glob("*web*"))


def test_authority_key_is_encrypted_and_stays_on_the_control_node(host):
    key = AUTHORITY / "ca.key"
    assert "ENCRYPTED" in key.read_text()
    assert key.stat().st_mode & 0o777 == 0o600
    assert AUTHORITY.stat().st_mode & 0o777 == 0o700
    assert not host.file("/etc/llm/pki/ca.key").exists


def test_own_certificate_is_installed_where_asked(host):
    assert host.file("/etc/llm/pki/own.crt").exists == (host.check_output("hostname") == "pki1")
