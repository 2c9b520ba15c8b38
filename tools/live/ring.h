// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The guest's receive ring as a backend sees it: slots of one page. What is in the ring is taken by
// the guest in order, when it runs. There is no queue behind it: what does not fit is dropped, or
// waits in custody.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace vsnoop::live {

/// First in, first out; grows by doubling and never shrinks.
template <typename T>
class Fifo {
 public:
  explicit Fifo(size_t capacity = 64) : items_(std::bit_ceil(capacity)) {}

  bool empty() const { return count_ == 0; }
  size_t size() const { return count_; }
  T& front() { return items_[first_]; }
  void push(T item) {
    if (count_ == items_.size()) grow();
    items_[(first_ + count_++) & (items_.size() - 1)] = std::move(item);
  }
  void pop() {
    first_ = (first_ + 1) & (items_.size() - 1);
    --count_;
  }

 private:
  void grow() {
    std::vector<T> larger(items_.size() * 2);
    for (size_t i = 0; i < count_; ++i)
      larger[i] = std::move(items_[(first_ + i) & (items_.size() - 1)]);
    items_ = std::move(larger);
    first_ = 0;
  }

  std::vector<T> items_;
  size_t first_ = 0;
  size_t count_ = 0;
};

/// Who wants to put a frame into the ring.
enum class Entry {
  kDirect,  ///< passing traffic: every slot
  kCustody  ///< fed from custody: leaves an eighth of the ring, a slot at least, to others
};

/// Accounts for the slots; T is what one frame in the ring is to its user.
template <typename T>
class GuestRing {
 public:
  static constexpr uint32_t kSlotBytes = 4096;

  explicit GuestRing(uint32_t slots) : slots_(slots), items_(slots) {}

  static uint32_t slots_for(uint32_t length) {
    return std::max(1U, (length + kSlotBytes - 1) / kSlotBytes);
  }
  /// A frame larger than the whole ring may enter an empty one.
  bool fits(uint32_t length, Entry who) const {
    if (used_ == 0) return true;
    const uint32_t others = std::max(slots_ / 8, 1U);
    const uint32_t limit = who == Entry::kCustody && slots_ > 1 ? slots_ - others : slots_;
    return used_ + slots_for(length) <= limit;
  }
  void push(T item, uint32_t length) {
    const uint32_t slots = slots_for(length);
    used_ += slots;
    peak_ = std::max(peak_, used_);
    items_.push({std::move(item), slots});
  }
  T& front() { return items_.front().item; }
  void pop() {
    used_ -= items_.front().slots;
    items_.pop();
  }

  bool empty() const { return items_.empty(); }
  size_t frames() const { return items_.size(); }
  uint32_t slots() const { return slots_; }
  uint32_t used() const { return used_; }
  uint32_t peak() const { return peak_; }

 private:
  struct Item {
    T item;
    uint32_t slots;
  };

  uint32_t slots_;
  uint32_t used_ = 0;
  uint32_t peak_ = 0;
  Fifo<Item> items_;
};

}  // namespace vsnoop::live
