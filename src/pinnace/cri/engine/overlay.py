"""How overlayfs is to keep its notes: in a user namespace as attributes that users may set (`userxattr`, Linux 5.11).

https://docs.kernel.org/filesystems/overlayfs.html specifies the option and the attributes.
"""

from __future__ import annotations

import functools

from pinnace.cri.engine import _syscalls as sys_


@functools.cache
def opaque() -> str:
    """The attribute of a directory that hides what is below it."""
    return f"{'user' if sys_.in_user_namespace() else 'trusted'}.overlay.opaque"


@functools.cache
def option() -> str:
    """What mounts have to say, before anything else."""
    return "userxattr," if sys_.in_user_namespace() else ""
