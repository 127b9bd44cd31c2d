// File: service.h
//
// What the gateway answers to each path: its own pages here, the rest by a
// provider (proxy_request.h).
//
//   /                 the page for people
//   /healthz          200 while it runs
//   /readyz           200 while it takes requests and some key can serve
//   /metrics          for Prometheus
//   /status           JSON
//   /events           the same once a second, as server-sent events
//   /admin/...        see OnAdmin; with the admin token alone
//   /v1/..., /NAME/v1/...   passed on; /v1/models joins the providers' lists
//
// Example:
//   gateway::Connection connection(loop, std::move(socket),
//                                  gateway::MakeService(history));

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_SERVICE_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_SERVICE_H_

#include "gateway/connection.h"
#include "gateway/status_page.h"

namespace gateway {

// `history` must outlive what it returns.
MakeHandler MakeService(const History& history);

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_SERVICE_H_
