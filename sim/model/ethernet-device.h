// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "ns3/channel.h"
#include "ns3/data-rate.h"
#include "ns3/error-model.h"
#include "ns3/mac48-address.h"
#include "ns3/net-device.h"
#include "ns3/nstime.h"
#include "ns3/random-variable-stream.h"
#include "ns3/traced-callback.h"

#include <functional>
#include <map>
#include <vector>

namespace ns3
{

class EthernetChannel;

/**
 * \ingroup vsnoop
 * \brief A NetDevice whose packets are Ethernet frames, header first, checksum not included.
 *
 * Frames that arrive go to the node's protocol stack or, if a handler is set, to that alone: so are
 * switches and driver domains built. Trace sources Sniffer and PromiscSniffer see every frame, in
 * the form that pcap files with link type Ethernet want.
 */
class EthernetDevice : public NetDevice
{
  public:
    /// Takes a whole frame.
    typedef std::function<void(Ptr<Packet> frame)> FrameHandler;

    static TypeId GetTypeId();
    EthernetDevice();
    ~EthernetDevice() override;

    /**
     * Sends a frame as it is.
     * \param frame the frame, Ethernet header first
     * \returns false if it was dropped at once
     */
    virtual bool SendFrame(Ptr<Packet> frame) = 0;
    /**
     * Takes every frame that arrives, in place of the node's protocol stack.
     * \param handler who takes them
     */
    void SetFrameHandler(FrameHandler handler);
    /**
     * Hands a frame up: to the handler, or to the protocol stack of the node if it is for it.
     * \param frame the frame, Ethernet header first
     */
    void ReceiveFrame(Ptr<Packet> frame);

    // from NetDevice
    void SetIfIndex(const uint32_t index) override;
    uint32_t GetIfIndex() const override;
    Ptr<Channel> GetChannel() const override;
    void SetAddress(Address address) override;
    Address GetAddress() const override;
    bool SetMtu(const uint16_t mtu) override;
    uint16_t GetMtu() const override;
    bool IsLinkUp() const override;
    void AddLinkChangeCallback(Callback<void> callback) override;
    bool IsBroadcast() const override;
    Address GetBroadcast() const override;
    bool IsMulticast() const override;
    Address GetMulticast(Ipv4Address group) const override;
    Address GetMulticast(Ipv6Address address) const override;
    bool IsBridge() const override;
    bool IsPointToPoint() const override;
    bool Send(Ptr<Packet> packet, const Address& dest, uint16_t protocol) override;
    bool SendFrom(Ptr<Packet> packet,
                  const Address& source,
                  const Address& dest,
                  uint16_t protocol) override;
    Ptr<Node> GetNode() const override;
    void SetNode(Ptr<Node> node) override;
    bool NeedsArp() const override;
    void SetReceiveCallback(ReceiveCallback callback) override;
    void SetPromiscReceiveCallback(PromiscReceiveCallback callback) override;
    bool SupportsSendFrom() const override;

    /**
     * Connects two devices.
     * \param a one
     * \param b the other
     * \param delay of the cable
     * \returns the channel
     */
    static Ptr<EthernetChannel> Connect(Ptr<EthernetDevice> a,
                                        Ptr<EthernetDevice> b,
                                        Time delay = Time(0));

  protected:
    void DoDispose() override;
    /// Shows a frame to the sniffers.
    void Sniff(Ptr<const Packet> frame);
    /// Counts and traces a frame that is dropped.
    void Drop(Ptr<const Packet> frame);
    Ptr<EthernetChannel> GetEthernetChannel() const;

  private:
    /// Gives a frame to the node, in whose context it has to be called.
    void HandUp(Ptr<Packet> frame);

    Ptr<Node> m_node;
    Ptr<EthernetChannel> m_channel;
    Mac48Address m_address;
    uint32_t m_ifIndex{0};
    uint16_t m_mtu;
    FrameHandler m_handler;
    ReceiveCallback m_receive;
    PromiscReceiveCallback m_promiscReceive;
    TracedCallback<Ptr<const Packet>> m_sniffer;
    TracedCallback<Ptr<const Packet>> m_promiscSniffer;
    TracedCallback<Ptr<const Packet>> m_dropTrace;
};

/**
 * \ingroup vsnoop
 * \brief What two EthernetDevices share: a cable, or the memory between a guest and its host.
 */
class EthernetChannel : public Channel
{
  public:
    static TypeId GetTypeId();
    std::size_t GetNDevices() const override;
    Ptr<NetDevice> GetDevice(std::size_t i) const override;
    /**
     * \param device one end
     * \returns the other
     */
    Ptr<EthernetDevice> GetOther(const EthernetDevice* device) const;
    /// \returns the delay of the cable
    Time GetDelay() const;

  private:
    friend class EthernetDevice;
    Ptr<EthernetDevice> m_ends[2];
    Time m_delay;
};

/**
 * \ingroup vsnoop
 * \brief A full-duplex Ethernet port.
 *
 * The wire carries a preamble, a frame check sequence and a gap with each frame (24 bytes, at least
 * 84 in all), so that 1 Gb/s is 941 Mb/s of TCP payload as with the real thing. Loss is an error
 * model; reordering delays a frame with a given probability.
 */
class LinkDevice : public EthernetDevice
{
  public:
    static TypeId GetTypeId();
    LinkDevice();
    ~LinkDevice() override;

    bool SendFrame(Ptr<Packet> frame) override;
    /**
     * \param stream first random stream to use
     * \returns streams used
     */
    int64_t AssignStreams(int64_t stream);
    /// \returns frames dropped because the queue was full
    uint64_t GetQueueDrops() const;
    /// \returns bytes sent, headers included
    uint64_t GetSentBytes() const;

  private:
    void Arrive(Ptr<Packet> frame);

    DataRate m_rate;
    uint32_t m_queueBytes;
    Ptr<ErrorModel> m_errorModel;
    double m_reorder;
    Time m_reorderDelay;
    Ptr<UniformRandomVariable> m_random;
    Time m_free; //!< when the wire has sent all that was queued
    uint64_t m_queueDrops{0};
    uint64_t m_sentBytes{0};
};

/**
 * \ingroup vsnoop
 * \brief Forwards frames between ports by destination address; learns addresses from sources.
 *
 * A switch if it is given ports of LinkDevices; the bridge of a driver domain otherwise. It takes
 * no time of its own.
 */
class EthernetBridge : public Object
{
  public:
    static TypeId GetTypeId();
    /**
     * \param output takes frames that leave through this port
     * \returns number of the port
     */
    uint32_t AddPort(EthernetDevice::FrameHandler output);
    /**
     * Makes a device a port.
     * \param device its frames are forwarded from now on
     */
    void AddDevice(Ptr<EthernetDevice> device);
    /**
     * \param port where the frame came from
     * \param frame Ethernet header first
     */
    void Forward(uint32_t port, Ptr<Packet> frame);

  protected:
    void DoDispose() override;

  private:
    std::vector<EthernetDevice::FrameHandler> m_ports;
    std::map<Mac48Address, uint32_t> m_table;
};

} // namespace ns3
