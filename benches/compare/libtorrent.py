"""A libtorrent client.

source TORRENT DIR UP ADDRESS...  seeds without a check from each address, UP bytes a second each (0: no limit), until killed
seed TORRENT DIR ADDRESS [PEERS]  checks the content and seeds it until killed, with at most PEERS connections
keep TORRENTS DIR ADDRESS         seeds every torrent of a directory without a check until killed
fetch TORRENT DIR ADDRESS         downloads, and ends when it is complete

With RC4 in the environment connections are encrypted, and no others are accepted.
"""

import os
import sys
import time

import libtorrent as lt

OFF = ["enable_dht", "enable_lsd", "enable_upnp", "enable_natpmp", "enable_incoming_utp", "enable_outgoing_utp"]
# The source must not limit a fast client.
FAST = {"send_buffer_watermark": 4 << 20, "send_buffer_watermark_factor": 150, "unchoke_slots_limit": 500}

# The policies are 0 for required, the level is 2 for RC4.
RC4 = {"in_enc_policy": 0, "out_enc_policy": 0, "allowed_enc_level": 2} if os.environ.get("RC4") else {}


def start(address, settings):
    return lt.session({**dict.fromkeys(OFF, False), "listen_interfaces": f"{address}:6881", "alert_mask": 0, **RC4, **settings})


def add(session, place, torrent, flags=0, without=0):
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(torrent)
    params.save_path = place
    params.flags = params.flags & ~without | flags
    return session.add_torrent(params)


role, torrent, place, *rest = sys.argv[1:]
if role == "source":
    up, *addresses = rest
    sessions = [start(address, FAST) for address in addresses]
    handles = [add(session, place, torrent, lt.torrent_flags.seed_mode) for session in sessions]
    for handle in handles:
        handle.set_upload_limit(int(up))
elif role == "keep":
    session = start(rest[0], {})
    # Auto-managed torrents would be limited to five active ones.
    without = lt.torrent_flags.auto_managed | lt.torrent_flags.paused
    for name in sorted(os.listdir(torrent)):
        add(session, place, os.path.join(torrent, name), lt.torrent_flags.seed_mode, without)
else:
    session = start(rest[0], {"connections_limit": int(rest[1])} if len(rest) > 1 else {})
    handle = add(session, place, torrent)
while role != "fetch":
    time.sleep(3600)
while not handle.status().is_seeding:
    time.sleep(0.05)
