// File: pool/peers.h
//
// Peers: what the groups of a pool have taught of one another in a scope. Keys of
// one kind have the same limit, so that where those that have found how fast the
// provider lets requests through agree, another need not find it out by itself.
// Where they do not agree, nothing follows.

#ifndef KEYROTATOR_POOL_PEERS_H_
#define KEYROTATOR_POOL_PEERS_H_

#include <cmath>
#include <optional>

namespace keyrotator::internal {

class Peers {
 public:
  // `who` found that rate. It counts once until another one says something.
  void Learn(const void* who, double rate) {
    const double log = std::log(rate);
    if (who == last_) Forget();
    last_ = who;
    last_log_ = log;
    last_fade_ = kFade;
    count_ = count_ * kFade + 1;
    sum_ = sum_ * kFade + log;
    squares_ = squares_ * kFade + log * log;
  }

  // The rate that they agree on, if they do.
  std::optional<double> Rate() const {
    if (count_ < kFewest) return std::nullopt;
    const double mean = sum_ / count_;
    const double variance = squares_ / count_ - mean * mean;
    if (variance > kSpread * kSpread) return std::nullopt;
    return std::exp(mean);
  }

 private:
  static constexpr double kFade = 0.9;
  static constexpr double kFewest = 2.5;
  // Of the logarithms: 15 %.
  static constexpr double kSpread = 0.15;

  // Takes the last one back.
  void Forget() {
    count_ = (count_ - 1) / last_fade_;
    sum_ = (sum_ - last_log_) / last_fade_;
    squares_ = (squares_ - last_log_ * last_log_) / last_fade_;
  }

  const void* last_ = nullptr;
  double last_log_ = 0;
  double last_fade_ = 1;
  double count_ = 0;
  double sum_ = 0;
  double squares_ = 0;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_PEERS_H_
