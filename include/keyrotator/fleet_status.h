// File: fleet_status.h
//
// FleetStatus: how a process stands with its fleet (Fleet::Status).
//
// Example:
//   keyrotator::FleetStatus status{.is_connected = true, .processes = 4};
//   fmt::print("{}\n", status);

#ifndef KEYROTATOR_FLEET_STATUS_H_
#define KEYROTATOR_FLEET_STATUS_H_

#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "keyrotator/key_status.h"

namespace keyrotator {

struct FleetStatus {
  // Whether the last message was answered.
  bool is_connected = false;
  // For how long that has been so; from the beginning on a process is not.
  std::chrono::nanoseconds since{0};
  // That the ledger heard of lately, this one included; as of the last reply.
  double processes = 0;
  // How long ago the last reply came; empty before the first.
  std::optional<std::chrono::nanoseconds> age = {};
  // How long that took.
  std::chrono::nanoseconds round_trip{0};
  // What the fleet knows of its keys, as of the last reply: how many were taken
  // out, as two processes had them refused; how many are doubted, as one had; and
  // for how many groups it told to send nothing for a while.
  std::size_t failed_keys = 0;
  std::size_t doubted_keys = 0;
  std::size_t cooling_groups = 0;
  std::uint64_t exchanges = 0;  // messages that were answered
  std::uint64_t misses = 0;     // and not
  // Why the last one that was not answered was not. Without secrets.
  std::string error = {};
};

}  // namespace keyrotator

// "connected for 12.5s, 4 processes, round trip 0.0004s",
// "alone for 3s (connection refused)"
template <>
struct fmt::formatter<keyrotator::FleetStatus>
    : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const keyrotator::FleetStatus& status, Context& context) const {
    using keyrotator::internal::SpanText;
    std::string text = status.is_connected ? "connected for " : "alone for ";
    text += SpanText(status.since);
    if (status.is_connected) {
      text += fmt::format(", {:.0f} processes, round trip ", status.processes);
      text += SpanText(status.round_trip);
      const auto add = [&](std::size_t count, std::string_view what) {
        if (count > 0) text += fmt::format(", {} {}", count, what);
      };
      add(status.failed_keys, "failed");
      add(status.doubted_keys, "doubted");
      add(status.cooling_groups, "cooling");
    } else if (!status.error.empty()) {
      text.append(" (").append(status.error).append(")");
    }
    return fmt::formatter<std::string_view>::format(text, context);
  }
};

#endif  // KEYROTATOR_FLEET_STATUS_H_
