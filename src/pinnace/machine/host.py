"""The host driver: this machine is the node.

The node gets an address of its own on a bridge without ports, so that it stays the same whatever networks the machine
joins, is reached from pods and from the host, and does not meet another profile's. Relies on netlink (pyroute2).
"""

from __future__ import annotations

import errno
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

_NODAD = 0x02  # IFA_F_NODAD of linux/if_addr.h


def ensure_address(bridge: str, address: str, prefix_length: int) -> None:
    """Make sure that `bridge` exists, is up and has the address; idempotent."""
    with IPRoute() as netlink:
        try:
            netlink.link("add", ifname=bridge, kind="bridge")
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise
        index = _index(netlink, bridge)
        netlink.link("set", index=index, state="up")
        try:
            netlink.addr("add", index=index, address=address, prefixlen=prefix_length, **_unasked(address))
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise


def remove_link(name: str) -> None:
    """Delete a link; one that is not there is deleted already."""
    with IPRoute() as netlink:
        if netlink.link_lookup(ifname=name):
            netlink.link("del", index=_index(netlink, name))


def _unasked(address: str) -> dict[str, int]:
    """An IPv6 address is ours at once: there is nobody on the bridge to ask whether it is taken."""
    return {"flags": _NODAD} if ":" in address else {}


def _index(netlink: Any, name: str) -> int:
    index: int = netlink.link_lookup(ifname=name)[0]
    return index
