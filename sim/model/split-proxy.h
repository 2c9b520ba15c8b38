// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "vcpu.h"

#include "ns3/address.h"
#include "ns3/node.h"
#include "ns3/object.h"
#include "ns3/socket.h"

#include <map>

namespace ns3
{

/**
 * \ingroup vsnoop
 * \brief A proxy that ends TCP connections on a node and opens others to a guest in their stead.
 *
 * Both halves are ordinary TCP; bytes are copied from one to the other as there is room, by a
 * program on the driver domain's VCPU.
 */
class SplitProxy : public Object
{
  public:
    static TypeId GetTypeId();
    SplitProxy();
    ~SplitProxy() override;

    /**
     * Accepts connections in a guest's place.
     * \param node whose TCP it uses
     * \param vcpu who executes it
     * \param listen where peers connect to
     * \param target where the guest listens
     */
    void Publish(Ptr<Node> node, Ptr<Vcpu> vcpu, const Address& listen, const Address& target);

  protected:
    void DoDispose() override;

  private:
    /// One half of a proxied connection.
    struct Half
    {
        Ptr<Socket> other;
        bool connected{false}; //!< may be written to
        bool closed{false};    //!< its other end sends no more
        bool moving{false};    //!< what it received is on its way to the other half
    };

    void OnAccept(Ptr<Socket> socket, Ptr<Node> node, Address target);
    void OnData(Ptr<Socket> from);
    void OnSpace(Ptr<Socket> to, uint32_t available);
    void OnClose(Ptr<Socket> socket);
    void Move(Ptr<Socket> from);

    Ptr<Vcpu> m_vcpu;
    std::vector<Ptr<Socket>> m_listening;
    std::map<Ptr<Socket>, Half> m_halves;
    Time m_callCost;
    double m_nsPerByte;
};

} // namespace ns3
