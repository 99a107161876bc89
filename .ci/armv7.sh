#!/bin/bash
# Runs a cargo command for 32-bit ARM:  .ci/armv7.sh build --release
#
# Where rustup has the target, rustup's compiler is used. Elsewhere Debian's compiler of our oldest supported version
# is unpacked, with its ARM standard library, into a directory of its own (ARMV7_ROOT); the system's compiler is not
# touched. The result needs  qemu-arm -L /usr/arm-linux-gnueabihf  to run on another machine.
set -euo pipefail

target=armv7-unknown-linux-gnueabihf
root=${ARMV7_ROOT:-$HOME/.cache/rill-armv7}
version=1.85.0+dfsg3-1~deb12u3

fetch_compiler() {
    dpkg --add-architecture armhf
    apt-get update -qq || true # one architecture's mirror may lack lists that are not needed
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libllvm19 >/dev/null
    local work; work=$(mktemp -d)
    (
        cd "$work"
        apt-get download -qq "rustc-web=$version" "libstd-rust-web-1.85=$version" "libstd-rust-web-dev=$version" \
            "libstd-rust-web-dev:armhf=$version"
        mkdir -p "$root/tree"
        for package in *.deb; do dpkg -x "$package" "$root/tree"; done
    )
    rm -r "$work"
    cat >"$root/rustc" <<END
#!/bin/sh
LD_LIBRARY_PATH=$root/tree/usr/lib/x86_64-linux-gnu exec $root/tree/usr/bin/rustc "\$@"
END
    chmod +x "$root/rustc"
}

if ! command -v arm-linux-gnueabihf-gcc >/dev/null; then
    apt-get update -qq || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        gcc-arm-linux-gnueabihf libc6-dev-armhf-cross >/dev/null
fi

if [[ -d $(rustc --print sysroot)/lib/rustlib/$target ]]; then
    echo "32-bit ARM with the installed $(rustc --version)"
else
    [[ -x $root/rustc ]] || { mkdir -p "$root" && fetch_compiler; }
    export RUSTC=$root/rustc
    echo "32-bit ARM with $("$RUSTC" --version) from $root"
fi

export CARGO_BUILD_TARGET=$target
export CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_LINKER=arm-linux-gnueabihf-gcc
export CC_armv7_unknown_linux_gnueabihf=arm-linux-gnueabihf-gcc
cargo "$@"
