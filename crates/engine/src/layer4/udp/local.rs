//! Which of the machine's addresses a datagram came to, and answering from that one: a client drops
//! what comes from another.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
};

/// Whose datagrams are one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Where they come from.
    pub client: SocketAddr,
    /// The address they came to, where the socket has all of the machine's.
    pub local: Option<IpAddr>,
}

/// Has the kernel tell where datagrams came to, if the socket is not at one address alone.
///
/// # Errors
/// What the kernel says.
pub fn ask(socket: &impl AsFd, bound: IpAddr) -> io::Result<()> {
    match bound {
        _ if !bound.is_unspecified() => Ok(()),
        IpAddr::V4(_) => Ok(setsockopt(socket, Ipv4PacketInfo, &true)?),
        IpAddr::V6(_) => Ok(setsockopt(socket, Ipv6RecvPacketInfo, &true)?),
    }
}

/// Where the kernel writes what it tells of a datagram.
pub fn room() -> Vec<u8> {
    cmsg_space!(in6_pktinfo)
}

/// Takes a datagram.
///
/// # Errors
/// What the kernel says.
pub fn receive(
    socket: &impl AsRawFd,
    data: &mut [u8],
    room: &mut [u8],
) -> io::Result<(usize, Peer)> {
    let mut into = [IoSliceMut::new(data)];
    let flags = MsgFlags::empty();
    let got = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut into, Some(room), flags)?;
    let local = got.cmsgs()?.find_map(|told| match told {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(info.ipi6_addr.s6_addr.into()),
        _ => None,
    });
    let client = got.address.and_then(|from| {
        let v4 = from
            .as_sockaddr_in()
            .map(|&v4| SocketAddrV4::from(v4).into());
        v4.or_else(|| Some(SocketAddrV6::from(*from.as_sockaddr_in6()?).into()))
    });
    let peer = Peer {
        client: client.ok_or(io::ErrorKind::InvalidData)?,
        // Nothing can be sent from a group.
        local: local.filter(|ip| !ip.is_multicast()),
    };
    Ok((got.bytes, peer))
}

/// Answers from where the client asked. The way out is the routing table's affair, not that of the
/// interface by which the question came.
///
/// # Errors
/// What the kernel says.
pub fn answer(socket: &impl AsRawFd, data: &[u8], peer: Peer) -> io::Result<()> {
    let (v4, v6);
    let from = match peer.local {
        None => None,
        Some(IpAddr::V4(ip)) => {
            let ipi_spec_dst = in_addr {
                s_addr: u32::from_ne_bytes(ip.octets()),
            };
            v4 = in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst,
                ipi_addr: in_addr { s_addr: 0 },
            };
            Some(ControlMessage::Ipv4PacketInfo(&v4))
        }
        Some(IpAddr::V6(ip)) => {
            let ipi6_addr = in6_addr {
                s6_addr: ip.octets(),
            };
            v6 = in6_pktinfo {
                ipi6_addr,
                ipi6_ifindex: 0,
            };
            Some(ControlMessage::Ipv6PacketInfo(&v6))
        }
    };
    let (data, to) = ([IoSlice::new(data)], SockaddrStorage::from(peer.client));
    sendmsg(
        socket.as_raw_fd(),
        &data,
        from.as_slice(),
        MsgFlags::empty(),
        Some(&to),
    )?;
    Ok(())
}
