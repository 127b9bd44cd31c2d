// File: fleet/marks.h
//
// FleetMarks: what a fleet's ledger knows of whole keys: which ones processes had
// refused as invalid, and which groups rest. One process's word is not enough to
// take a key from all: what it talks to may be broken, and the key good. Two are.
//
// Everything has a version, so that a message tells what is known only if that is
// new.
//
// Example:
//   keyrotator::FleetMarks marks;
//   const keyrotator::FleetNews news{
//       .id = "k", .kind = keyrotator::FleetNews::Kind::kFailed};
//   const double who = 4711;
//   marks.Hear(news, who, 0);
//   keyrotator::FleetReply reply;
//   marks.Tell(0, 0, reply);  // reply.marks: k, one word

#ifndef KEYROTATOR_FLEET_MARKS_H_
#define KEYROTATOR_FLEET_MARKS_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "keyrotator/fleet_messages.h"
#include "keyrotator/internal/time.h"

namespace keyrotator {

// Not thread-safe.
class FleetMarks {
  using Nanos = internal::Nanos;

 public:
  // More keys than these are not marked, and longer names are not known.
  static constexpr std::size_t kMost = 1024;
  static constexpr std::size_t kMostName = 256;

  // `born`: the first version.
  explicit FleetMarks(std::uint64_t born = 0) : born_(born), version_(born) {}

  std::uint64_t version() const { return version_; }

  // Linear in the marks.
  void Hear(const FleetNews& news, double who, Nanos now) {
    std::erase_if(marks_,
                  [&](const auto& mark) { return mark.second.IsOver(now); });
    if (news.id.size() > kMostName) return;
    if (marks_.size() >= kMost && !marks_.contains(news.id)) return;
    Mark& mark = marks_[news.id];
    if (!mark.Hear(news, who, now, version_ + 1)) return;
    ++version_;
    mark.changed = now;
  }

  // What is new since the version `known`.
  void Tell(std::uint64_t known, Nanos now, FleetReply& reply) const {
    reply.version = version_;
    reply.born = born_;
    if (known == version_) return;
    reply.marks.emplace();
    for (const auto& [id, mark] : marks_) {
      reply.marks->push_back(
          {.id = id,
           .words = mark.words(),
           .failed = mark.failed,
           .restored = mark.restored,
           .failed_for = mark.tried == internal::kNever
                             ? 0
                             : std::max<Nanos>(1, mark.tried - now),
           .rests = std::max<Nanos>(0, mark.rests - now),
           .is_guess = mark.is_guess});
    }
  }

 private:
  // A mark that says nothing is kept for so long, for those who have not heard.
  static constexpr Nanos kForget = Nanos{3600} * 1'000'000'000;

  struct Mark {
    std::array<double, 2> who{};  // said that the key failed; 0: nobody
    std::uint64_t failed = 0;     // versions
    std::uint64_t restored = 0;
    Nanos tried = internal::kNever;  // when the key may be
    Nanos rests = 0;                 // until when
    bool is_guess = false;
    Nanos changed = 0;

    double words() const {
      return (who[0] != 0 ? 1.0 : 0.0) + (who[1] != 0 ? 1.0 : 0.0);
    }
    bool IsOver(Nanos now) const {
      return words() == 0 && rests <= now && now - changed > kForget;
    }

    // Whether that changes anything, which is then `version`.
    bool Hear(const FleetNews& news, double teller, Nanos now,
              std::uint64_t version) {
      switch (news.kind) {
        case FleetNews::Kind::kFailed:
          return Fail(news.span, teller, now, version);
        case FleetNews::Kind::kServed:
          if (words() == 2) return Restore(version);
          for (double& one : who) {
            if (one != teller) continue;
            one = 0;
            return true;
          }
          return false;
        case FleetNews::Kind::kRestored:
          return Restore(version);
        case FleetNews::Kind::kRested:
          if (internal::SaturatingAdd(now, news.span) <= rests) return false;
          rests = internal::SaturatingAdd(now, news.span);
          is_guess = news.is_guess;
          return true;
      }
      return false;
    }
    bool Fail(Nanos span, double teller, Nanos now, std::uint64_t version) {
      const Nanos until =
          span > 0 ? internal::SaturatingAdd(now, span) : internal::kNever;
      if (who[0] == teller || who[1] == teller || words() == 2) {
        if (until == tried) return false;
        tried = until;
        return true;
      }
      (who[0] == 0 ? who[0] : who[1]) = teller;
      failed = version;
      tried = until;
      return true;
    }
    bool Restore(std::uint64_t version) {
      who = {};
      restored = version;
      return true;
    }
  };

  std::uint64_t born_;
  std::uint64_t version_;
  std::map<std::string, Mark> marks_;
};

}  // namespace keyrotator

#endif  // KEYROTATOR_FLEET_MARKS_H_
