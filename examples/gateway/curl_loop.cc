#include "gateway/curl_loop.h"

#include <keyrotator/http/url.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <chrono>
#include <climits>
#include <cstring>
#include <new>
#include <string>
#include <system_error>
#include <utility>

namespace gateway {
namespace {

using keyrotator::Headers;
using keyrotator::TransportError;

constexpr std::size_t kMostIdleHandles = 256;
constexpr long kMostIdleConnections = 1024;

}  // namespace

// ---- Transfer ----

Transfer::Transfer(CurlLoop& loop, const keyrotator::HttpRequest& request,
                   bool upload, std::optional<std::uint64_t> upload_size,
                   Receiver& receiver)
    : loop_(loop),
      receiver_(receiver),
      easy_(loop.TakeEasy()),
      repeatable_(request.repeatable) {
  if (const auto url = keyrotator::internal::ParseUrl(request.url))
    origin_ = url->origin;
  Set(CURLOPT_PRIVATE, this);
  Set(CURLOPT_URL, request.url.c_str());
  Set(CURLOPT_NOSIGNAL, 1L);
  Set(CURLOPT_PATH_AS_IS, 1L);
  Set(CURLOPT_TCP_KEEPALIVE, 1L);
  Set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  Set(CURLOPT_HTTP_VERSION, long{CURL_HTTP_VERSION_2TLS});
  // Without TLS a proxy of the environment could read the key.
  if (!origin_.starts_with("https:")) Set(CURLOPT_PROXY, "");
#if LIBCURL_VERSION_NUM >= 0x075700
  // Else ending a transfer waits for a name server that does not answer.
  Set(CURLOPT_QUICK_EXIT, 1L);
#endif
  const bool has_body = upload || !request.body.empty() ||
                        request.method == "POST" || request.method == "PUT" ||
                        request.method == "PATCH";
  if (upload) {
    Set(CURLOPT_UPLOAD, 1L);
    Set(CURLOPT_INFILESIZE_LARGE,
        upload_size ? static_cast<curl_off_t>(*upload_size) : curl_off_t{-1});
    Set(CURLOPT_READFUNCTION, &OnRead);
    Set(CURLOPT_READDATA, this);
  } else if (has_body) {
    Set(CURLOPT_POSTFIELDS, request.body.empty() ? "" : request.body.data());
    Set(CURLOPT_POSTFIELDSIZE_LARGE,
        static_cast<curl_off_t>(request.body.size()));
    // As much memory as the request is likely to need, while it runs.
    Set(CURLOPT_UPLOAD_BUFFERSIZE, 16384L);
  }
  if (request.method == "HEAD") Set(CURLOPT_NOBODY, 1L);
  Set(CURLOPT_CUSTOMREQUEST, request.method.c_str());
  for (const auto& [name, value] : request.headers) {
    std::string line;
    line.reserve(name.size() + value.size() + 2);
    line.append(name).append(value.empty() ? ";" : ": ").append(value);
    AddField(std::move(line));
  }
  // Without a value: headers that libcurl would add by itself, and must not.
  AddField("Expect:");
  if (!request.headers.Find("Accept")) AddField("Accept:");
  if (has_body && !request.headers.Find("Content-Type"))
    AddField("Content-Type:");
  Set(CURLOPT_HTTPHEADER, fields_);
  Set(CURLOPT_CONNECTTIMEOUT_MS,
      static_cast<long>(std::clamp<std::chrono::milliseconds::rep>(
          request.connect_timeout.count(), 1, INT_MAX)));
  Set(CURLOPT_PREREQFUNCTION, &OnConnected);
  Set(CURLOPT_PREREQDATA, this);
  Set(CURLOPT_HEADERFUNCTION, &OnHeaderLine);
  Set(CURLOPT_HEADERDATA, this);
  Set(CURLOPT_WRITEFUNCTION, &OnBody);
  Set(CURLOPT_WRITEDATA, this);
  curl_multi_add_handle(loop_.multi_, easy_);
}

Transfer::~Transfer() {
  curl_multi_remove_handle(loop_.multi_, easy_);
  for (curl_slist* each = fields_; each != nullptr; each = each->next)
    keyrotator::internal::Wipe(each->data, std::strlen(each->data));
  curl_slist_free_all(fields_);
  loop_.GiveEasy(easy_);
}

// The line may hold a key.
void Transfer::AddField(const keyrotator::internal::SecretText& line) {
  curl_slist* longer = curl_slist_append(fields_, line.text().c_str());
  if (longer == nullptr) throw std::bad_alloc();
  fields_ = longer;
}

void Transfer::Resume() {
  if (std::exchange(paused_, false)) curl_easy_pause(easy_, CURLPAUSE_CONT);
}

void Transfer::Finished(CURLcode code) {
  if (stopped_ || (code == CURLE_OK && begun_)) return receiver_.OnEnd(nullptr);
  const TransportError error = ErrorOf(code);
  receiver_.OnEnd(&error);
}

TransportError Transfer::ErrorOf(CURLcode code) const {
  using Kind = TransportError::Kind;
  const auto error = [&](Kind kind, const std::string& what) {
    return TransportError{
        .kind = kind, .message = origin_ + ": " + what, .maybe_sent = sent_};
  };
  if (sent_) {
    if (head_.too_large())
      return error(Kind::kLost, "its headers are above 256 KiB");
    switch (broke_ ? CURLE_GOT_NOTHING : code) {
      case CURLE_GOT_NOTHING:
      case CURLE_OK:
        return error(Kind::kLost,
                     "the connection was closed without an answer");
      case CURLE_PARTIAL_FILE:
        return error(Kind::kLost, "the connection was closed amid the answer");
      case CURLE_UNSUPPORTED_PROTOCOL:
      case CURLE_WEIRD_SERVER_REPLY:
        return error(Kind::kLost, "what came back is not HTTP");
      default:
        return error(Kind::kLost, std::string("the connection broke: ") +
                                      curl_easy_strerror(code));
    }
  }
  switch (code) {
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
      return error(Kind::kTls,
                   std::string("TLS failed: ") + curl_easy_strerror(code));
    case CURLE_URL_MALFORMAT:
      return error(Kind::kBadUrl, curl_easy_strerror(code));
    case CURLE_COULDNT_CONNECT: {
      long number = 0;
      curl_easy_getinfo(easy_, CURLINFO_OS_ERRNO, &number);
      if (number != 0)
        return error(Kind::kConnect,
                     "could not connect: " + std::generic_category().message(
                                                 static_cast<int>(number)));
      break;
    }
    default:
      break;
  }
  return error(Kind::kConnect,
               std::string("could not connect: ") + curl_easy_strerror(code));
}

std::size_t Transfer::OnHeaderLine(char* data, std::size_t, std::size_t size,
                                   void* self) {
  return static_cast<Transfer*>(self)->HeaderLine({data, size}) ? size : 0;
}

bool Transfer::HeaderLine(std::string_view line) {
  if (begun_) return true;  // a trailer field
  return head_.Line(line, [&](Headers fields) {
    long status = 0;
    curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200) return;
    begun_ = true;
    receiver_.OnHead(static_cast<int>(status), std::move(fields));
  });
}

std::size_t Transfer::OnBody(char* data, std::size_t, std::size_t size,
                             void* self) {
  Transfer& transfer = *static_cast<Transfer*>(self);
  if (transfer.receiver_.IsFull()) {
    transfer.paused_ = true;
    return CURL_WRITEFUNC_PAUSE;
  }
  if (transfer.receiver_.OnBody({data, size})) return size;
  transfer.stopped_ = true;
  return 0;
}

std::size_t Transfer::OnRead(char* to, std::size_t, std::size_t room,
                             void* self) {
  Transfer& transfer = *static_cast<Transfer*>(self);
  if (const auto size = transfer.receiver_.OnUpload({to, room})) return *size;
  transfer.paused_ = true;
  return CURL_READFUNC_PAUSE;
}

// Called when a connection is ready and before the first byte goes out; again
// where one that was kept turned out to be dead.
int Transfer::OnConnected(void* self, char*, char*, int, int) {
  Transfer& transfer = *static_cast<Transfer*>(self);
  if (std::exchange(transfer.sent_, true) && !transfer.repeatable_) {
    transfer.broke_ = true;
    return CURL_PREREQFUNC_ABORT;
  }
  return CURL_PREREQFUNC_OK;
}

// ---- CurlLoop ----

CurlLoop::CurlLoop(boost::asio::io_context& io)
    : io_(io), timer_(io), multi_(curl_multi_init()) {
  if (multi_ == nullptr) throw std::bad_alloc();
  curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &OnSocket);
  curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
  curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &OnTimer);
  curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
  curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, kMostIdleConnections);
}

CurlLoop::~CurlLoop() {
  for (CURL* easy : idle_) curl_easy_cleanup(easy);
  curl_multi_cleanup(multi_);
}

std::unique_ptr<Transfer> CurlLoop::Start(
    const keyrotator::HttpRequest& request, Receiver& receiver, bool upload,
    std::optional<std::uint64_t> upload_size) {
  return std::make_unique<Transfer>(*this, request, upload, upload_size,
                                    receiver);
}

CURL* CurlLoop::TakeEasy() {
  if (!idle_.empty()) {
    CURL* const easy = idle_.back();
    idle_.pop_back();
    return easy;
  }
  CURL* const easy = curl_easy_init();
  if (easy == nullptr) throw std::bad_alloc();
  return easy;
}

void CurlLoop::GiveEasy(CURL* easy) {
  if (idle_.size() >= kMostIdleHandles) return curl_easy_cleanup(easy);
  curl_easy_reset(easy);
  idle_.push_back(easy);
}

int CurlLoop::OnSocket(CURL*, curl_socket_t socket, int what, void* self,
                       void*) {
  static_cast<CurlLoop*>(self)->WatchSocket(socket, what);
  return 0;
}

void CurlLoop::WatchSocket(curl_socket_t socket, int what) {
  auto& watch = watches_[socket];
  if (what == CURL_POLL_REMOVE) {
    if (watch) {
      watch->wanted = 0;
      watch->descriptor.release();  // libcurl closes it, or keeps it
    }
    watches_.erase(socket);
    return;
  }
  if (!watch) watch = std::make_shared<Watch>(io_, socket);
  watch->wanted = what;
  Arm(watch);
}

void CurlLoop::Arm(const std::shared_ptr<Watch>& watch) {
  using boost::asio::posix::stream_descriptor;
  const auto wait = [&](int flag, bool Watch::*busy, auto direction,
                        int events) {
    if ((watch->wanted & flag) == 0 || (*watch).*busy) return;
    (*watch).*busy = true;
    watch->descriptor.async_wait(
        direction, [this, watch, busy, flag,
                    events](const boost::system::error_code& error) {
          (*watch).*busy = false;
          if (!error && (watch->wanted & flag) != 0) Ready(watch, events);
        });
  };
  wait(CURL_POLL_IN, &Watch::reading, stream_descriptor::wait_read,
       CURL_CSELECT_IN);
  wait(CURL_POLL_OUT, &Watch::writing, stream_descriptor::wait_write,
       CURL_CSELECT_OUT);
}

void CurlLoop::Ready(const std::shared_ptr<Watch>& watch, int events) {
  int running = 0;
  curl_multi_socket_action(multi_, watch->descriptor.native_handle(), events,
                           &running);
  TakeEnded();
  if (watch->wanted != 0) Arm(watch);
}

int CurlLoop::OnTimer(CURLM*, long milliseconds, void* self) {
  CurlLoop& loop = *static_cast<CurlLoop*>(self);
  loop.due_ = milliseconds < 0 ? Time::max()
                               : std::chrono::steady_clock::now() +
                                     std::chrono::milliseconds(milliseconds);
  if (milliseconds != 0) {
    loop.ArmTimer();
  } else if (!std::exchange(loop.now_due_, true)) {
    boost::asio::post(loop.io_, [&loop] {
      loop.now_due_ = false;
      loop.CheckTimer();
    });
  }
  return 0;
}

// A transfer changes libcurl's next time several times, mostly to a later one.
// To set the kernel's timer each time would cost more than one that comes for
// nothing.
void CurlLoop::ArmTimer() {
  if (due_ >= armed_) return;
  armed_ = due_;
  timer_.expires_at(due_);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    armed_ = Time::max();
    CheckTimer();
    ArmTimer();
  });
}

void CurlLoop::CheckTimer() {
  if (std::chrono::steady_clock::now() < due_) return;
  due_ = Time::max();  // libcurl says when it wants to be called next
  int running = 0;
  curl_multi_socket_action(multi_, CURL_SOCKET_TIMEOUT, 0, &running);
  TakeEnded();
}

void CurlLoop::TakeEnded() {
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode code = message->data.result;
    char* transfer = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
    curl_multi_remove_handle(multi_, message->easy_handle);
    reinterpret_cast<Transfer*>(transfer)->Finished(code);
  }
}

}  // namespace gateway
