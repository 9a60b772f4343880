# Sourced by the other scripts: makes .venv and installs the system programs that are missing.
# Asks for nothing but Python 3.11 and, for system programs, Debian's or Ubuntu's apt.

root=$(cd "$(dirname "$0")/.." && pwd)
# A user's PATH often lacks the places of system programs, such as nft.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

fail() {
    echo "$(basename "$0"): $1" >&2
    exit 1
}

find_python() {
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# install_packages PACKAGE…: through apt, as root; the package lists are fetched only when they are needed.
install_packages() {
    [ "$(id -u)" = 0 ] || fail "these packages are missing: $*. Install them, or run this with sudo"
    command -v apt-get >/dev/null 2>&1 || fail "install these with your package manager: $*"
    echo "Installing $*" >&2
    apt_install "$@" >/dev/null 2>&1 || {
        apt-get update >&2
        apt_install "$@" >&2
    }
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# need_program PROGRAM PACKAGE: install the package unless the program is there.
need_program() {
    command -v "$1" >/dev/null 2>&1 || install_packages "$2"
}

# need_kubectl: kubectl 1.27 or newer on PATH, or in .venv/bin from the Debian release after this one.
need_kubectl() {
    PATH=$root/.venv/bin:$PATH
    kubectl_minor() { kubectl version --client -o json 2>/dev/null | sed -n 's/.*"minor": "\([0-9]*\).*/\1/p' | head -n 1; }
    minor=$(kubectl_minor)
    [ "${minor:-0}" -ge 27 ] && return
    # The client is one static program: it can be taken from a newer release without upgrading anything.
    newer=$(mktemp -d)
    mkdir -p "$newer/lists/partial" "$newer/package"
    codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    # The mirror this machine uses: of the source whose suite is the release itself, in either of apt's formats.
    mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        awk -v suite="$codename" '
            $1 == "URIs:" { uri = $2 }
            $1 == "Suites:" && $2 == suite { print uri; exit }
            $1 == "deb" { for (i = 3; i <= NF; i++) if ($i == suite) { print $(i - 1); exit } }')
    echo "deb $mirror trixie main" >"$newer/sources.list"
    set -- -o "Dir::Etc::SourceList=$newer/sources.list" -o "Dir::Etc::SourceParts=-" -o "Dir::State::Lists=$newer/lists" \
        -o "Dir::State::status=/dev/null" -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache=" -o APT::Sandbox::User=root
    echo "Fetching a newer kubectl" >&2
    if apt-get "$@" update >&2 && (cd "$newer/package" && apt-get "$@" download kubectl >&2); then
        dpkg-deb -x "$newer"/package/*.deb "$newer/package" && cp "$newer/package/usr/bin/kubectl" "$root/.venv/bin/kubectl"
    fi
    rm -rf "$newer"
    minor=$(kubectl_minor)
    [ "${minor:-0}" -ge 27 ] || fail "kubectl 1.27 or newer is needed for the tests: https://kubernetes.io/docs/tasks/tools/"
}

# make_venv GROUP…: .venv with the project (editable) and the given dependency groups, made anew only when they changed.
make_venv() {
    python=$(find_python) || {
        install_packages python3
        python=$(find_python) || fail "Python 3.11 or newer is needed"
    }
    stamp="$("$python" -V) $* $(cksum <"$root/pyproject.toml")"
    [ "$(cat "$root/.venv/.stamp" 2>/dev/null)" = "$stamp" ] && return
    # Debian's python3 comes without ensurepip: then a venv cannot be made until python3-venv is there.
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        install_packages python3-venv
    fi
    echo "Setting up $root/.venv" >&2
    "$python" -m venv --clear "$root/.venv" || fail "$root/.venv cannot be made"
    groups=""
    for group in "$@"; do
        groups="$groups --group $group"
    done
    # From within the checkout, so that its path may hold spaces while the groups are split into words.
    # shellcheck disable=SC2086
    (
        cd "$root" &&
            .venv/bin/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' &&
            .venv/bin/pip install --quiet --disable-pip-version-check --editable . $groups
    ) || fail "the Python packages could not be fetched: is there a network?"
    echo "$stamp" >"$root/.venv/.stamp"
    # A venv made through sudo stays usable by who called it.
    [ -z "${SUDO_UID:-}" ] || chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$root/.venv"
}
