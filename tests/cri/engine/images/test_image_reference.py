"""References as docker and containerd read them."""

import pytest

from pinnace.cri.engine.images.reference import InvalidReferenceError, parse

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("written", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("user/app", "docker.io/user/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox:latest"),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/a/b/c:x", "localhost:5000/a/b/c:x"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ("Upper/app", "Upper/app:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        (f"busybox:1.36@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        ("a__b/c.d/e---f", "docker.io/a__b/c.d/e---f:latest"),
    ],
)
def test_a_reference_is_made_full(written: str, full: str) -> None:
    assert str(parse(written)) == full
    assert str(parse(full)) == full


@pytest.mark.parametrize(
    "written",
    ["", "a//b", "-a", "a:", "a:-x", "a b", "a@sha256:00", "http://a/b", "a/b/", "a/../b", "ä", "a:" + "x" * 129],
)
def test_what_is_no_reference_is_refused_in_the_kubelets_words(written: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        parse(written)
    assert str(caught.value) == f'couldn\'t parse image name "{written}": invalid reference format'


def test_upper_case_is_told_apart() -> None:
    with pytest.raises(InvalidReferenceError, match=r"repository name \(library/Busybox\) must be lowercase"):
        parse("Busybox")


def test_an_image_id_is_no_name() -> None:
    with pytest.raises(InvalidReferenceError, match="cannot specify 64-byte hexadecimal strings"):
        parse("a" * 64)


def test_a_name_has_an_end() -> None:
    with pytest.raises(InvalidReferenceError, match="must not be more than 255 characters"):
        parse("x/" + "a" * 260)
