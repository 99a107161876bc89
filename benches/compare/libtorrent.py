"""libtorrent as a client that one command starts.

source TORRENT DIR UP ADDRESS...  serves what is surely there from each address, UP bytes a second each (0: no limit), until killed
seed TORRENT DIR ADDRESS          checks what is there and serves it until killed
fetch TORRENT DIR ADDRESS         ends when it is complete
"""

import sys
import time

import libtorrent as lt

OFF = ["enable_dht", "enable_lsd", "enable_upnp", "enable_natpmp", "enable_incoming_utp", "enable_outgoing_utp"]
# The source must not be what limits a fast client.
FAST = {"send_buffer_watermark": 4 << 20, "send_buffer_watermark_factor": 150, "unchoke_slots_limit": 500}


def start(address, place, torrent, settings, flags=0):
    session = lt.session({**dict.fromkeys(OFF, False), "listen_interfaces": f"{address}:6881", "alert_mask": 0, **settings})
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(torrent)
    params.save_path = place
    params.flags |= flags
    return session, session.add_torrent(params)


role, torrent, place, *rest = sys.argv[1:]
if role == "source":
    up, *addresses = rest
    kept = [start(address, place, torrent, FAST, lt.torrent_flags.seed_mode) for address in addresses]
    for _, handle in kept:
        handle.set_upload_limit(int(up))
else:
    kept = [start(rest[0], place, torrent, {})]
while role != "fetch" or not kept[0][1].status().is_seeding:
    time.sleep(0.05)
