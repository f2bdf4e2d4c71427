"""The network interface by which the workers of a training reach each other."""

from __future__ import annotations

import os
from typing import Any

import psutil
import ray.util
from ray.train.torch import TorchConfig

GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"


class InterfaceOfRay(TorchConfig):  # type: ignore[misc]  # Ray Train is not typed
    """Torch's process group, on the interface by which Ray reaches a node.

    Torch alone takes the interface that the host's name belongs to.  On many systems that is the
    loopback, where workers on two hosts do not find each other.
    """

    @property
    def backend_cls(self) -> Any:
        """The backend of Torch, which first chooses the interface."""
        torch: Any = super().backend_cls

        class OnInterfaceOfRay(torch):  # type: ignore[misc]
            def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
                worker_group.execute(choose_interface)
                super().on_start(worker_group, backend_config)

        return OnInterfaceOfRay


def choose_interface() -> None:
    """Have gloo use the interface by which Ray reaches this node, unless the user chose one."""
    interface = interface_of(ray.util.get_node_ip_address())
    if interface is not None:
        os.environ.setdefault(GLOO_INTERFACE, interface)


def interface_of(address: str) -> str | None:
    """Name of the interface that has an address; None if this host does not know the address."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            return str(name)
    return None
