// File: metrics.h
//
// What the gateway counts of each provider, and the same for Prometheus. What a
// caller can make up, such as the name of a model, is no label: he would decide
// how many series there are.
//
// Example:
//   gateway::ProviderMetrics metrics;
//   metrics.duration.Add(std::chrono::milliseconds(120));
//   std::string text = gateway::MetricsText({{"openai", &metrics}});

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_METRICS_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_METRICS_H_

#include <fmt/format.h>
#include <keyrotator/status/prometheus.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gateway {

// Thread-safe. Adding costs a few nanoseconds.
class Histogram {
 public:
  // Upper bounds in seconds; one more, without a bound, is behind them.
  static constexpr std::array kBounds{0.001, 0.0025, 0.005, 0.01,  0.025, 0.05,
                                      0.1,   0.25,   0.5,   1.0,   2.5,   5.0,
                                      10.0,  30.0,   60.0,  120.0, 300.0};

  void Add(std::chrono::nanoseconds time) {
    const double seconds = std::chrono::duration<double>(time).count();
    const auto bound =
        std::lower_bound(kBounds.begin(), kBounds.end(), seconds);
    ++counts_[static_cast<std::size_t>(bound - kBounds.begin())];
    nanos_ +=
        static_cast<std::uint64_t>(std::max<std::int64_t>(time.count(), 0));
  }

  // Its samples, without the metric's help and type.
  std::string Text(std::string_view name, const std::string& label) const {
    std::string text;
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      total += counts_[i];
      text += fmt::format(
          "{}_bucket{{{},le=\"{}\"}} {}\n", name, label,
          i < kBounds.size() ? fmt::format("{}", kBounds[i]) : "+Inf", total);
    }
    return text + fmt::format("{0}_sum{{{1}}} {2}\n{0}_count{{{1}}} {3}\n",
                              name, label, static_cast<double>(nanos_) / 1e9,
                              total);
  }

 private:
  std::array<std::atomic<std::uint64_t>, kBounds.size() + 1> counts_{};
  std::atomic<std::uint64_t> nanos_ = 0;
};

// Thread-safe.
struct ProviderMetrics {
  // How requests ended, as the caller saw it.
  enum End { k2xx, k3xx, k4xx, k429, k5xx, kCut, kGone };
  static constexpr std::array<std::string_view, 7> kEnds{
      "2xx", "3xx", "4xx", "429", "5xx", "cut", "gone"};

  static End EndOf(int status) {
    if (status == 429) return k429;
    if (status < 300) return k2xx;
    if (status < 400) return k3xx;
    return status < 500 ? k4xx : k5xx;
  }

  std::array<std::atomic<std::uint64_t>, kEnds.size()> ended{};
  std::atomic<std::uint64_t> attempts = 0;
  std::atomic<std::int64_t> in_flight = 0;  // requests that have not ended
  std::atomic<std::int64_t> waiting = 0;    // of those, for a key or a retry
  Histogram wait;
  Histogram first_byte;
  Histogram duration;

  std::uint64_t served() const { return ended[k2xx] + ended[k3xx]; }
  // By the gateway or the provider, but not for the caller's own fault.
  std::uint64_t refused() const {
    return ended[k429] + ended[k5xx] + ended[kCut];
  }
};

// All providers' metrics in Prometheus's text format.
inline std::string MetricsText(
    const std::vector<std::pair<std::string, const ProviderMetrics*>>&
        providers) {
  std::string text;
  const auto metric = [&](std::string_view name, std::string_view type,
                          std::string_view help, auto samples) {
    text += fmt::format(
        "# HELP keyrotator_gateway_{0} {2}\n# TYPE keyrotator_gateway_{0} "
        "{1}\n",
        name, type, help);
    const std::string full = fmt::format("keyrotator_gateway_{}", name);
    for (const auto& [provider, metrics] : providers)
      samples(full, keyrotator::internal::Label("provider", provider),
              *metrics);
  };
  metric("requests_total", "counter",
         "Requests that ended, by what the caller saw of it.",
         [&](const std::string& name, const std::string& label,
             const ProviderMetrics& metrics) {
           for (std::size_t i = 0; i < metrics.ended.size(); ++i)
             text += fmt::format("{}{{{},end=\"{}\"}} {}\n", name, label,
                                 ProviderMetrics::kEnds[i],
                                 metrics.ended[i].load());
         });
  metric("attempts_total", "counter", "Requests sent to the provider.",
         [&](const std::string& name, const std::string& label,
             const ProviderMetrics& metrics) {
           text += fmt::format("{}{{{}}} {}\n", name, label,
                               metrics.attempts.load());
         });
  metric("in_flight", "gauge", "Requests that have not ended.",
         [&](const std::string& name, const std::string& label,
             const ProviderMetrics& metrics) {
           text += fmt::format("{}{{{}}} {}\n", name, label,
                               metrics.in_flight.load());
         });
  metric("waiting", "gauge", "Requests that wait for a key or for a retry.",
         [&](const std::string& name, const std::string& label,
             const ProviderMetrics& metrics) {
           text += fmt::format("{}{{{}}} {}\n", name, label,
                               metrics.waiting.load());
         });
  const auto histogram = [&](std::string_view name, std::string_view help,
                             Histogram ProviderMetrics::*which) {
    metric(name, "histogram", help,
           [&](const std::string& full, const std::string& label,
               const ProviderMetrics& metrics) {
             text += (metrics.*which).Text(full, label);
           });
  };
  histogram("wait_seconds", "How long a request waited for a key.",
            &ProviderMetrics::wait);
  histogram("first_byte_seconds",
            "From a request to the first byte of its answer.",
            &ProviderMetrics::first_byte);
  histogram("duration_seconds", "From a request to the end of its answer.",
            &ProviderMetrics::duration);
  return text;
}

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_METRICS_H_
