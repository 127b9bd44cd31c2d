// What an example at the head of a header may use without declaring it: the
// reader's own program. Keep it small: an example that declares what it needs is
// the better one.

#include <keyrotator/http/transport.h>
#include <keyrotator/keyrotator.h>
#include <keyrotator/openai/sse.h>

#include <cassert>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

using namespace std::chrono_literals;

// A pool of keys, and a key that was picked.
extern std::vector<keyrotator::ApiKey> keys;
extern keyrotator::KeyRotator<> rotator;
extern keyrotator::Lease lease;
extern std::optional<keyrotator::Lease> key;

// The reader's HTTP client: what goes out, what comes back.
extern std::string url, json, body;
extern keyrotator::HttpResponse response;
extern keyrotator::SseEvent event;
extern keyrotator::ResponseSink& sink;
extern std::stop_token stop;
int Post(const std::string& url, const std::string& authorization);
keyrotator::HttpResponse MySend(std::string_view secret);
void Use(const keyrotator::HttpResponse& response);
extern int listening;  // a socket
void Log(const std::string& line);
