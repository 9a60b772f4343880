"""CEL's functions: the language's own, its extensions, and Kubernetes' libraries, a file for each group.

https://kubernetes.io/docs/reference/using-api/cel/#cel-community-libraries and the section after it.
"""

from __future__ import annotations

from functools import lru_cache

from pinnace.machinery.cel.functions import Library, merged


@lru_cache(maxsize=32)
def library(minor: int) -> Library:
    """Every function that a minor of Kubernetes has. Shared and read-only."""
    from pinnace.machinery.cel.library import (
        authorizer,
        formats,
        lists,
        mathematics,
        networks,
        operators,
        optionals,
        quantities,
        regex,
        semver,
        sets,
        standard,
        strings,
        times,
        urls,
    )

    modules = (
        operators,
        standard,
        times,
        strings,
        optionals,
        mathematics,
        lists,
        sets,
        regex,
        urls,
        quantities,
        networks,
        formats,
        semver,
        authorizer,
    )
    return merged([module.function.library for module in modules], minor)
