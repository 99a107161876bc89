#!/bin/bash
# Installs the programs that the checks need: the clients and the tracker of the interop tests, an emulator for
# 32-bit ARM, the fuzzer. Programs that are installed already are left as they are. Needs root for packages.
set -euo pipefail

missing=()
want() { command -v "$1" >/dev/null || missing+=("$2"); }
want aria2c aria2
want transmission-cli transmission-cli
want rtorrent rtorrent
want opentracker opentracker
want ip iproute2
want qemu-arm qemu-user
want mkfs.xfs xfsprogs
want mkfs.ext4 e2fsprogs
want openssl openssl
want strace strace
want valgrind valgrind
want nft nftables
want miniupnpd miniupnpd-nftables
want danted dante-server
want microsocks microsocks
if ((${#missing[@]})); then
    echo "installing: ${missing[*]}"
    # A list that cannot be renewed may be of something else; the install below says whether anything is missing.
    apt-get update -qq || echo "some package lists could not be renewed"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# The Python module contains all of libtorrent.
python3 -c 'import libtorrent' 2>/dev/null ||
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --root-user-action=ignore 'libtorrent==2.1.1'

# Debian starts these services at installation; they would occupy ports.
for service in opentracker transmission-daemon danted microsocks; do
    service "$service" stop >/dev/null 2>&1 || true
done

cargo fuzz --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-fuzz
