//! The interface that all sockets are bound to: it may vanish, and come back as another one of the same name.
//!
//! ```text
//!   there ──gone──► silent: the kernel refuses every packet ──back──► new sockets, connections closed
//! ```
//!
//! Sockets stay bound to the interface that is gone, so a session never falls back to another one.

use super::event_loop::EventLoop;
use super::tokens::Owner;
use crate::net::{BoundUdp, Egress, MulticastSockets, bind};
use crate::units::{Instant, TransportKind};
use std::time::Duration;

/// The interval of checks: short for a user whose tunnel was restarted, and one system call each.
const CHECK_INTERVAL: Duration = Duration::from_secs(3);

/// The interface whose sockets are in use.
#[derive(Debug)]
pub(super) struct InterfaceWatch {
    /// Its index when the sockets were bound.
    bound: Option<u32>,
    /// It was there at the last check.
    present: bool,
    /// The time of the next check.
    pub(super) next: Instant,
}

impl InterfaceWatch {
    /// Returns the watch of the interface that `egress` names; `None` if it names none.
    pub(super) fn start(egress: &Egress) -> Option<InterfaceWatch> {
        egress.interface_name()?;
        Some(InterfaceWatch {
            bound: egress.interface_index(),
            present: true,
            next: Instant::ZERO + CHECK_INTERVAL,
        })
    }
}

impl EventLoop {
    /// Returns whether the interface that sockets are bound to is gone: a failed dial then says nothing about the
    /// peer.
    pub(super) fn is_interface_gone(&self) -> bool {
        self.interface.as_ref().is_some_and(|watch| {
            let index = self.egress.interface_index();
            index.is_none() || index != watch.bound
        })
    }

    /// Looks whether the interface is there, and binds new sockets if it is another one.
    pub(super) fn check_interface(&mut self) {
        let now = self.now;
        let Some(watch) = self.interface.as_mut().filter(|watch| watch.next <= now) else { return };
        watch.next = now + CHECK_INTERVAL;
        let index = self.egress.interface_index();
        let was_present = std::mem::replace(&mut watch.present, index.is_some());
        if was_present && index.is_none() {
            log::warn!("{} is gone: nothing is sent or received until it is back", self.interface_name());
        }
        let is_new = index.is_some() && index != self.interface.as_ref().and_then(|watch| watch.bound);
        if is_new && self.bind_again() {
            log::warn!("{} is back", self.interface_name());
            if let Some(watch) = &mut self.interface {
                watch.bound = index;
            }
        }
    }

    fn interface_name(&self) -> &str {
        self.egress.interface_name().unwrap_or("the interface")
    }

    /// Replaces the listening and UDP sockets and has every connection dialed anew. Returns false if the ports
    /// cannot be bound yet.
    fn bind_again(&mut self) -> bool {
        let (port, udp_port) = (self.listeners.port(), self.udp.port());
        self.listeners.close();
        self.udp.close();
        self.bound_udp = BoundUdp::default();
        let tcp = self.transports.allow(TransportKind::Tcp);
        let bound = bind(&self.listen_on, port..=port, Some(udp_port), tcp, &self.egress);
        let registered = bound.and_then(|(mut listeners, mut udp)| {
            let registry = self.poll.registry();
            listeners.register(registry, |index| Owner::TcpListener(index).token())?;
            udp.register(registry, |index| Owner::Udp(index).token())?;
            let mut multicast = MulticastSockets::default();
            if self.lsd {
                multicast = MulticastSockets::join(&self.listen_on, &self.egress);
                multicast.register(registry, |index| Owner::Multicast(index).token())?;
            }
            Ok((listeners, udp, multicast))
        });
        match registered {
            Ok((listeners, udp, multicast)) => {
                (self.listeners, self.udp, self.multicast) = (listeners, udp, multicast);
                self.utp.on_new_sockets();
                self.engine.on_network_changed(self.now, &mut self.actions);
                true
            }
            Err(e) => {
                log::info!("{} cannot be bound yet: {e}", self.interface_name());
                false
            }
        }
    }
}
