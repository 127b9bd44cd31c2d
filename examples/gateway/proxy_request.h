// File: proxy_request.h
//
// ProxyRequest: a request that is passed on to a provider, and its answer back.
// The body is kept, so that it can be sent again with another key; one that is
// too large to be kept goes through as it comes, once.
//
// Example: see MakeGatewayHandler in service.cc.
//   return std::make_unique<gateway::ProxyRequest>(connection, std::move(head),
//                                                  place);

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_PROXY_REQUEST_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_PROXY_REQUEST_H_

#include <keyrotator/http/message.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "gateway/connection.h"
#include "gateway/exchange.h"
#include "gateway/provider.h"
#include "gateway/request_head.h"
#include "gateway/routes.h"

namespace gateway {

class ProxyRequest final : public Handler, public Exchange::Listener {
 public:
  // `place` refers to the path in `head`.
  ProxyRequest(Connection& connection, RequestHead head,
               std::optional<std::size_t> provider, std::string below_v1);
  ~ProxyRequest() override;

  void OnBody(std::string_view bytes) override;
  void OnBodyEnd() override;
  void OnRoom() override;
  void OnHurry() override;

  void OnBegin(int status, keyrotator::Headers headers) override;
  bool OnBytes(std::string_view bytes) override;
  bool IsFull() override;
  std::optional<std::size_t> OnUpload(std::span<char> room) override;
  void OnDone() override;

 private:
  bool CanKeep(std::size_t more);
  void Start(bool whole);

  void AnswerAsItCame(keyrotator::HttpResponse response);
  void AnswerProblem(const Problem& problem);
  void Cut(const Problem& problem);
  void AddOwnHeaders(keyrotator::Headers& headers) const;
  void Log(std::string_view outcome);

  Connection& connection_;
  Loop& loop_;
  Gateway& gateway_;
  const RequestHead head_;
  std::optional<std::size_t> position_;  // of the provider, once it is known
  const std::string below_v1_;
  Provider* provider_ = nullptr;
  std::string model_;

  std::string body_;  // kept, or what is yet to be passed on
  std::size_t passed_ = 0;
  std::size_t reserved_ = 0;
  bool passing_ = false;  // the body goes through as it comes
  bool body_whole_ = false;

  std::shared_ptr<Exchange> exchange_;
  int status_ = 0;
  bool events_ = false;  // the answer is a stream of events
  bool counted_ = false;
  std::chrono::nanoseconds first_byte_{0};
};

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_PROXY_REQUEST_H_
