// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The engine behind vsnoop.h. One file per concern:
//   learn.cc       handshakes, birth and death of flows, link templates
//   from_peer.cc   P0 .. P12: peer to guest
//   from_guest.cc  G1 .. G8: guest to peer
//   promise.cc     taken and declined, what is promised, window by reservation
//   custody.cc     frames in custody: queue, ring, release, re-delivery
//   narrow.cc      G9: a guest that forwards into a narrow path
//   emit.cc        frames that vsnoop owes
//   life.cc        timers, quiesce, ring lost, fail-stop
//   face.cc        the C face and the decision log
#pragma once

#include "flowtable/flow_table.h"
#include "snoop-core/flow.h"
#include "snoop-core/segment.h"
#include "snoop-core/vsnoop.h"

VSNOOP_BEGIN

using Verdict = vsnoop_verdict;

// Flags of a verdict, from decide() to taken().
enum VerdictFlag : u8 {
  verdict_data = 1,     // the range counts once taken
  verdict_rst = 2,      // an RST that has to come last
  verdict_promise = 4,  // the range may be promised
};

class Engine {
 public:
  static void* operator new(size_t, void* memory) { return memory; }
  static size_t memory_needed(const vsnoop_config& config);
  static Engine* create(void* memory, size_t bytes, const vsnoop_config& config);

  bool guest_open(u16 id, const vsnoop_guest_config& config, u64 now);
  Verdict from_peer(u16 id, const vsnoop_frame& frame, u64 now);
  void prefetch(u16 id, bool from_peer, const vsnoop_frame* frames, u32 count) const;
  bool taken(const Verdict& verdict, vsnoop_held* held, u64 now);
  u8 declined(const Verdict& verdict);
  Verdict from_guest(u16 id, const vsnoop_frame& frame, u64 now);
  bool next(u16 id, vsnoop_feed& feed);
  void fed(u16 id, const vsnoop_feed& feed, u64 now);
  void skip(u16 id, const vsnoop_feed& feed, u16 lane);
  void resume(u16 id, u16 lane);
  bool consumed(vsnoop_held* held, u64 now);
  void progress(u16 id, u32 memory, u64 now);
  void returned(vsnoop_held* held);
  bool emit(vsnoop_emission& emission, u8* frame);
  vsnoop_held* tick(u64 now);
  u64 deadline() const;
  void quiesce(u16 id, bool on);
  vsnoop_held* guest_stop(u16 id, u64 now);

  const vsnoop_config& config() const { return config_; }
  bool owes() const { return owed_head_ != no_custody; }
  bool waiting(u16 id) const {
    return id < config_.guests && guests_[id].open &&
           (guests_[id].feed_new != no_custody || guests_[id].feed_old != no_custody);
  }
  /// What is known of the last frame's checksum.
  u8 seen_checksum() const { return seen_checksum_; }
  const vsnoop_guest_stats* stats(u16 id) const;
  u32 flows() const { return table_.size(); }
  bool flow_next(u32& cursor, vsnoop_flow_info& info) const;
  bool flow_info(vsnoop_ref ref, vsnoop_flow_info& info) const;
  const char* audit() const;

 private:
  using Table = FlowTable<Flow>;
  using Embryos = FlowTable<Embryo>;

  // A segment in its surroundings, while one call lasts.
  struct Scene {
    Scene(u16 guest_id, Guest& its_guest, const vsnoop_frame& its_frame, u64 at)
        : id(guest_id), guest(its_guest), frame(its_frame), now(at) {}

    u16 id;
    Guest& guest;
    const vsnoop_frame& frame;
    Segment segment;  // look() fills it in
    Ref ref = Ref::null();
    Flow* flow = nullptr;
    u64 now;
    vsnoop_held* let_go = nullptr;  // frames the host must free, whatever the verdict
    Seq seen;                       // end of what the peer had sent before
    bool news = false;              // it tells the guest a newer ACK number or window of the peer
  };

  // What the guest shows that it has: an ACK number, and SACK blocks above it.
  struct Shown {
    explicit Shown(Seq its_ack) : ack(its_ack), top(its_ack) {}
    bool has(Seq begin, Seq end) const;

    Seq ack, top;  // `top`: highest right edge of a block
    u32 blocks = 0;
    Seq left[4], right[4];
  };

  // learn.cc
  Reason learn_from_peer(Scene& scene);
  VSNOOP_NOINLINE Reason learn_from_guest(Scene& scene);
  Reason syn_from_peer(Scene& scene);
  Reason syn_ack_from_peer(Scene& scene);
  Reason syn_from_guest(Scene& scene);
  Reason syn_ack_from_guest(Scene& scene);
  Embryo* embryo_for(const FlowKey& key, u64 now);
  bool open_flow(Scene& scene, const Embryo& embryo);
  VSNOOP_COLD void end_flow(Ref ref, Flow& flow, Ending ending, vsnoop_held*& released);
  void forget_flow(Ref ref, Flow& flow, Guest& guest);
  VSNOOP_COLD bool answered(const Segment& segment) const;
  VSNOOP_COLD bool renews(const Flow& flow, const Segment& segment) const;
  void forget_embryo(Ref ref);
  bool idle(const Flow& flow, u64 now) const;
  void unpin(Ref ref, Flow& flow, Guest& guest, u64 now);
  void sweep_flows(u32 slots, u64 now, vsnoop_held** released);
  VSNOOP_COLD void evict_flow(u64 now);
  void sweep_embryos(u32 slots, u64 now);
  u16 intern_link(const Scene& scene);
  void drop_link(u16 link);
  void note_link(const Scene& scene, u16& link, u32& label);

  // from_peer.cc
  Verdict untracked(u16 id, Guest* guest, Reason reason);
  Reason look(Scene& scene, Direction direction);
  Verdict decide(Scene& scene);
  VSNOOP_COLD Verdict decide_unusual(Scene& scene);
  VSNOOP_COLD Verdict decide_fin(Scene& scene);
  VSNOOP_ALWAYS_INLINE bool acceptable_ack(const Flow& flow, const Segment& segment) const;
  VSNOOP_ALWAYS_INLINE void note_sent(Flow& flow, const Segment& segment);
  Verdict decide_data(Scene& scene);
  Verdict forward(Scene& scene, Reason reason, bool credit);
  Verdict bypass(Scene& scene, Reason reason);
  VSNOOP_COLD Verdict reset_from_peer(Scene& scene);
  VSNOOP_COLD void renew(Custody& custody, Guest& guest);
  VSNOOP_COLD Verdict stopped_from_peer(Scene& scene);
  bool answerable(const Scene& scene) const;
  Verdict answer(Scene& scene, Reason reason, u8 owed);
  bool answer_duplicate(Scene& scene);
  void note_acceptable(Scene& scene);
  static bool rested(const Flow& flow, u64 now) {
    return static_cast<u16>(moment(now) - flow.last_seen) >= moments(rest_s) && flow.is(flow_ts);
  }
  VSNOOP_COLD void note_rest(Flow& flow);
  void note_time(Flow& flow, u64 now);
  void note_timestamps(const Flow& flow, Custody& custody, const Segment& segment);
  Verdict take(Scene& scene, Reason reason);
  VSNOOP_COLD bool meets_passed(const Scene& scene) const;
  bool eases_out(const Flow& flow, const Guest& guest, Reason pause) const;
  void hand_back(Ref ref, Flow& flow, vsnoop_held*& released);

  // from_guest.cc
  Verdict reset_from_guest(Scene& scene);
  VSNOOP_COLD Verdict stopped_from_guest(Scene& scene);
  Verdict note_guest(Scene& scene);
  VSNOOP_COLD void take_window_back(Flow& flow, Guest& guest, Seq edge);
  Verdict decide_guest(Scene& scene, Seq old_guest_ack, Seq shown_ack, bool at_snd_nxt);
  bool covered(const Scene& scene, Seq old_guest_ack, Seq shown_ack) const;
  bool provoked(const Scene& scene) const;
  bool opens_window(const Flow& flow, const Guest& guest) const;
  bool new_sack_information(Scene& scene);
  VSNOOP_COLD Shown shown_by(const Scene& scene) const;
  void note_progress(Scene& scene, Custody& custody);
  void note_duplicate(Scene& scene, Custody& custody, bool same_edge);
  VSNOOP_COLD void note_holes(Scene& scene, Custody& custody);

  // promise.cc
  bool recordable(const Custody& custody, Seq begin, Seq end) const;
  bool silent(const Guest& guest, u64 now) const;
  Reason may_promise(const Flow& flow, const Guest& guest, u64 now) const;
  bool speaks_at_hole(const Flow& flow, const Guest& guest, const Custody& custody) const;
  VSNOOP_ALWAYS_INLINE void speak_of(const Verdict& verdict, Ref ref, Flow& flow, Guest& guest,
                                     Custody& custody, bool sacked, u64 now);
  void commit(Flow& flow, Custody& custody, Seq begin, Seq end, vsnoop_held* held);
  void absorb_ranges(Flow& flow, Custody& custody) {
    if (VSNOOP_UNLIKELY(custody.range_count)) absorb_reached(flow, custody);
  }
  VSNOOP_COLD void absorb_reached(Flow& flow, Custody& custody);
  void promise(Ref ref, Flow& flow, Guest& guest, u64 now);
  void confirm(Flow& flow, Guest& guest, Seq ack);
  void show_ack(Flow& flow, Guest& guest, Seq ack);
  void abandon_promise(Flow& flow, Guest& guest);
  u32 room(const Flow& flow, const Guest& guest) const;
  bool affordable(const Flow& flow, const Guest& guest, u32 memory) const;
  u32 reservation_after(const Flow& flow, const Guest& guest, Seq from, Seq to) const;
  u64 entry_price(const Flow& flow, const Guest& guest) const;
  // The right edge that needs no further reservation.
  static Seq free_edge(const Flow& flow, const Guest& guest) {
    return later(flow.shown_edge, flow.guest_ack + guest.base_window);
  }
  // The right edge that could be shown now.
  Seq grantable(const Flow& flow, const Guest& guest) const {
    const Seq free = free_edge(flow, guest);
    return after(flow.right_edge, free) ? grantable_beyond(free, flow, guest) : flow.right_edge;
  }
  VSNOOP_NOINLINE Seq grantable_beyond(Seq free, const Flow& flow, const Guest& guest) const;
  void top_up(Flow& flow, Guest& guest);
  void grant(Flow& flow, Guest& guest);
  void settle_reservation(Flow& flow, Guest& guest, Seq from);
  void reclaim_window(Flow& flow, Guest& guest, u64 now);
  void reserve(Flow& flow, Guest& guest, u32 memory);
  void give_back(Flow& flow, Guest& guest, u32 memory);
  void occupy(Guest& guest, u32 memory);
  void vacate(Guest& guest, u32 memory);
  void find_room(u64 now);
  void want_room(Ref ref, Flow& flow, Guest& guest, u64 now);
  void learn_cost(Flow& flow, u32 memory, u32 length);
  void serve_room(Guest& guest, u64 now) {
    if (VSNOOP_UNLIKELY(guest.room_head != no_custody)) serve_waiting(guest, now);
  }
  VSNOOP_NOINLINE void serve_waiting(Guest& guest, u64 now);
  static u32 as_seen(const Flow& flow, u32 window) {
    return window >> flow.guest_shift() << flow.guest_shift();
  }
  bool scaled_away(const Flow& flow, Seq ack) const;
  VSNOOP_COLD bool evict_waiter(Guest& guest);
  u32 opening(const Flow& flow, Seq edge) const;
  bool worth_an_update(const Flow& flow, u32 opened) const;
  void measure(Flow& flow, Guest& guest, u64 now);

  // custody.cc
  Custody* custody_of(const Flow& flow) {
    return flow.custody == no_custody ? nullptr : &custodies_[flow.custody];
  }
  const Custody* custody_of(const Flow& flow) const {
    return flow.custody == no_custody ? nullptr : &custodies_[flow.custody];
  }
  u32 index_of(const Custody& custody) const { return static_cast<u32>(&custody - custodies_); }
  Custody* acquire(Ref ref, Flow& flow, u64 now) {
    return flow.custody != no_custody ? &custodies_[flow.custody] : lend(ref, flow, now);
  }
  Custody* lend(Ref ref, Flow& flow, u64 now);
  void settle(Flow& flow);
  void settle(Custody& custody, Flow* flow);
  void enqueue(Custody& custody, Guest& guest, vsnoop_held& held);
  void join_feed(Custody& custody, Guest& guest);
  void leave_feed(Custody& custody, Guest& guest);
  VSNOOP_COLD void write_private_header(const Flow& flow, const Custody& custody,
                                        vsnoop_edit& edit) const;
  void send_back(Guest& guest, u32& head);
  VSNOOP_ALWAYS_INLINE bool feedable(const Custody& custody, const Flow* flow) const;
  void insert_line(Custody& custody, vsnoop_held& held, vsnoop_held* left);
  void release(Flow& flow, Guest& guest, vsnoop_held*& released);
  void purge(Flow& flow, Guest& guest, bool queue_goes_on, vsnoop_held*& released);
  void purge_queue(Custody& custody, Guest& guest, bool goes_on, vsnoop_held*& released);
  void uncharge(Custody& custody, Guest& guest, vsnoop_held& held);
  VSNOOP_COLD bool redeliverable(const Flow& flow, const Custody& custody) const;
  VSNOOP_COLD bool may_redeliver(const Flow& flow, const Custody& custody) const;
  VSNOOP_COLD void start_recovery(const Flow& flow, Custody& custody, Recovery recovery);
  VSNOOP_COLD void find_missing(const Flow& flow, Custody& custody, const Shown& shown);
  VSNOOP_COLD void review(Custody& custody, const Shown& shown, bool progress);
  VSNOOP_COLD void forget_again(Custody& custody);
  void wait_again(Custody& custody, Guest& guest, vsnoop_held& held);

  // narrow.cc
  VSNOOP_COLD Verdict too_big(Scene& scene);
  VSNOOP_COLD void narrow(Flow& flow, u32 mss);
  VSNOOP_COLD void cut_feed(const Flow& flow, const Custody& custody, vsnoop_feed& feed) const;
  VSNOOP_COLD bool note_piece(Custody& custody, const vsnoop_feed& feed);
  VSNOOP_COLD void note_probe(Flow& flow, Custody& custody);

  // emit.cc
  bool owe(Ref ref, Flow& flow, u8 what, u64 now);
  u8 write_blocks(const Flow& flow, Custody& custody, u8* block, u8 blocks);
  u32 write_ack(const Flow& flow, const FlowKey& key, Custody& custody, u8* frame);
  u32 write_reset(const Flow& flow, const FlowKey& key, bool to_guest, Seq seq, u8* frame);

  // life.cc
  void arm(Custody& custody, u64 at);
  void disarm(Custody& custody);
  u64 timeout(const Flow& flow, const Guest& guest, const Custody& custody) const;
  void on_timer(Custody& custody, u64 now, vsnoop_held*& released);
  void tell_broken(Ref ref, const Flow& flow, Guest& guest, Reason reason);
  void fail_stop(Ref ref, Flow& flow, Guest& guest, Reason reason, vsnoop_held*& released);
  void entomb(Ref ref, Flow& flow, bool guest_too);
  void repeat_reset(Flow& flow, Custody& custody, u64 now);
  VSNOOP_COLD bool may_answer_again(Flow& flow, bool news, u64 now);
  void sweep(u64 now, vsnoop_held*& released);
  VSNOOP_COLD void let_ranges_go(Flow& flow, Guest& guest, vsnoop_held*& released);
  bool ranges_at_rest(const Flow& flow, u64 now) const;
  VSNOOP_COLD void free_a_record(u64 now, vsnoop_held*& released);

  Guest* guest_at(u16 id) {
    return id < config_.guests && guests_[id].open ? &guests_[id] : nullptr;
  }
  void count(Guest& guest, Reason reason) { ++guest.stats.reasons[reason]; }
  Verdict verdict(const Scene& scene, u8 action, Reason reason, u8 retain = 0, u8 flags = 0);
  void describe(Ref ref, vsnoop_flow_info& info) const;

  vsnoop_config config_;
  Table table_;
  Embryos embryos_;
  Guest* guests_;
  Custody* custodies_;
  LinkTemplate* links_;
  u8 seen_checksum_;
  u64 used_, held_;  // over all guests
  u64 clock_;        // highest `now` seen
  u64 sweep_at_;     // next housekeeping
  bool shortage_;    // somebody found too little room since the last
  bool stirred_;     // a frame came since the last
  u32 sweep_every_;  // microseconds
  u32 fruitless_;    // slots looked at since room was found
  u32 record_hand_;  // where the search for a record goes on
  u32 free_custody_;
  u32 owed_head_, owed_tail_;
  u64 wheel_at_;  // tick count up to which timers have run
  // Housekeeping: often while frames come, half as often each time that none came.
  static constexpr u32 sweep_interval_us = 20000;
  static constexpr u32 shortage_interval_us = 4000;
  static constexpr u32 wheel_slots = 512;
  static constexpr unsigned wheel_shift = 12;  // 4096 microseconds a slot
  u32 wheel_[wheel_slots];
  u64 wheel_used_[wheel_slots / 64];
};

VSNOOP_END
