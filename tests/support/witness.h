// File: witness.h
//
// A server on loopback that answers whatever it is told to, and notes each
// request that arrived, whole.
//
// Example:
//   Witness witness([](const ArrivedRequest& request) {
//     return MakeAnswer(request.method == "GET" ? 200 : 404, {"{}"});
//   });
//   Get(witness.origin() + "/v1/files");
//   CHECK(witness.Log().at(0).target == "/v1/files");

#ifndef KEYROTATOR_TESTS_SUPPORT_WITNESS_H_
#define KEYROTATOR_TESTS_SUPPORT_WITNESS_H_

#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "keyrotator/testing/fake_answer.h"
#include "keyrotator/testing/fake_connection.h"
#include "tests/support/raw_server.h"

namespace keyrotator::testing {

using ArrivedRequest = fake_internal::FakeHttpRequest;
using fake_internal::MakeAnswer;

// Its clients must have left when it is destroyed. Thread-safe.
class Witness {
 public:
  // `answer` is called for each request, in the thread of its connection.
  explicit Witness(std::function<FakeAnswer(const ArrivedRequest&)> answer)
      : answer_(std::move(answer)),
        server_([this](RawConnection& peer) { Serve(peer); }) {}

  std::string origin() const { return server_.origin(); }

  // What arrived, the first first.
  std::vector<ArrivedRequest> Log() const {
    const std::lock_guard lock(mutex_);
    return log_;
  }

 private:
  void Serve(RawConnection& peer) {
    fake_internal::FakeConnection connection(peer.Release());
    while (const auto request = connection.Read()) {
      {
        const std::lock_guard lock(mutex_);
        log_.push_back(*request);
      }
      const FakeAnswer answer = answer_(*request);
      if (!connection.WriteHead(answer, request->keep_alive)) return;
      if (request->method == "HEAD") continue;
      for (const std::string& piece : answer.pieces) {
        if (!connection.WritePiece(answer, piece)) return;
      }
      if (answer.end != FakeAnswer::End::kWhole) return;
      if (!connection.WriteEnd(answer)) return;
    }
  }

  const std::function<FakeAnswer(const ArrivedRequest&)> answer_;
  mutable std::mutex mutex_;
  std::vector<ArrivedRequest> log_;  // guarded by mutex_
  RawServer server_;
};

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_WITNESS_H_
