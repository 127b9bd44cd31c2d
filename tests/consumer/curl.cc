// Sends to a port where nobody listens and is told so.

#include "keyrotator/http/curl.h"

#include <cstdio>
#include <stop_token>
#include <string_view>
#include <utility>

class Sink final : public keyrotator::ResponseSink {
 public:
  void OnHead(int, keyrotator::Headers) override {}
  keyrotator::Flow OnBody(std::string_view) override {
    return keyrotator::Flow::kMore;
  }
};

int main() {
  keyrotator::CurlTransport transport;
  Sink sink;
  const auto error = transport.Send(
      {.method = "GET", .url = "http://127.0.0.1:1/"}, sink, std::stop_token());
  if (!error || error->kind != keyrotator::TransportError::Kind::kConnect)
    return 1;
  std::puts("curl: ok");
}
