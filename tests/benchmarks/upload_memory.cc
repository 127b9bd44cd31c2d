// How much memory an upload takes that is read while it is sent: a body of so
// many MB, from nowhere, to a server on loopback that keeps none of it and
// refuses the first key. Prints how long it took and the largest size that the
// process had. The server is of the same process.
//
// Usage: upload_memory [MB, 500]

#include <sys/resource.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "keyrotator/http/curl.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/openai/client.h"
#include "tests/support/body_source.h"
#include "tests/support/raw_server.h"

namespace keyrotator {
namespace {

using testing::RawConnection;
using testing::RawServer;

long PeakKilobytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

int Main(std::uint64_t size) {
  std::uint64_t received = 0;
  int requests = 0;
  RawServer server([&](RawConnection& peer) {
    std::string text;
    while (true) {
      text.clear();
      while (text.find("\r\n\r\n") == text.npos) {
        if (!peer.ReadSome(text)) return;
      }
      std::uint64_t body = text.size() - text.find("\r\n\r\n") - 4;
      while (body < size) {
        text.clear();
        if (!peer.ReadSome(text)) return;
        body += text.size();
      }
      received += body;
      const char* const status = ++requests == 1 ? "401 No" : "200 OK";
      peer.Write("HTTP/1.1 " + std::string(status) +
                 "\r\nContent-Length: 2\r\n\r\n{}");
    }
  });
  KeyRotator rotator({"sk-a", "sk-b"});
  OpenAIClient client(server.origin(), rotator, CurlTransport({.proxy = ""}));
  const long before = PeakKilobytes();
  const auto start = std::chrono::steady_clock::now();
  const Reply reply = client.Post("/files", testing::SourceOfSize(size),
                                  {.content_type = "application/octet-stream"});
  const std::chrono::duration<double> took =
      std::chrono::steady_clock::now() - start;
  std::printf(
      "%.0f MB, twice: %.2f s; peak before %ld kB, after %ld kB, so %ld kB "
      "more\n",
      static_cast<double>(size) / 1e6, took.count(), before, PeakKilobytes(),
      PeakKilobytes() - before);
  const bool whole = reply.ok() && received == 2 * size;
  if (!whole) std::printf("not served: %s\n", reply.message.c_str());
  return whole && PeakKilobytes() - before < 8 * 1024 ? 0 : 1;
}

}  // namespace
}  // namespace keyrotator

int main(int argc, char** argv) {
  const int megabytes = argc > 1 ? std::atoi(argv[1]) : 500;
  return keyrotator::Main(static_cast<std::uint64_t>(megabytes) * 1'000'000);
}
