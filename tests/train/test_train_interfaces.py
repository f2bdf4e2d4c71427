"""Workers of a training use the interface that Ray knows their node by."""

import os
import socket

from raydeblend.train import interfaces


def test_an_address_has_the_interface_of_its_host() -> None:
    assert "127.0.0.1" in socket.gethostbyname_ex("localhost")[2]
    loopback = interfaces.interface_of("127.0.0.1")
    assert loopback in [name for _, name in socket.if_nameindex()]
    # TEST-NET-1 (RFC 5737) is the address of no host.
    assert interfaces.interface_of("192.0.2.1") is None


def test_gloo_gets_it_unless_the_user_chose_another(monkeypatch) -> None:
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setenv(interfaces.GLOO_INTERFACE, "chosen")
    interfaces.choose_interface()
    assert os.environ[interfaces.GLOO_INTERFACE] == "chosen"
    monkeypatch.delenv(interfaces.GLOO_INTERFACE)
    interfaces.choose_interface()
    chosen = os.environ[interfaces.GLOO_INTERFACE]
    assert chosen == interfaces.interface_of("127.0.0.1")
