#include "gateway/server.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gateway/connection.h"
#include "gateway/loop.h"
#include "gateway/service.h"
#include "gateway/status_page.h"

namespace gateway {
namespace {

using boost::asio::ip::tcp;

tcp::endpoint EndpointOf(const Options& options) {
  boost::system::error_code error;
  const std::string host =
      options.host == "localhost" ? "127.0.0.1" : options.host;
  const auto address = boost::asio::ip::make_address(host, error);
  if (error)
    throw std::runtime_error(
        "The address to listen on must be an IP address, such as 127.0.0.1");
  if (!address.is_loopback() && options.tokens.empty())
    throw std::runtime_error(
        "To be reached from other machines it needs --token-file: whoever "
        "reaches it spends the keys' money");
  return {address, static_cast<unsigned short>(options.port)};
}

}  // namespace

struct Server::Parts {
  Parts(Options options, Setup setup, AccessLog::Write write)
      : endpoint(EndpointOf(options)),
        gateway(std::move(options), std::move(setup), std::move(write)) {
    static const CURLcode kReady = curl_global_init(CURL_GLOBAL_DEFAULT);
    static_cast<void>(kReady);
    for (int i = 0; i < std::max(gateway.options.threads, 1); ++i)
      loops.push_back(std::make_unique<Loop>(gateway));
    acceptor.emplace(loops[0]->io);
    retry.emplace(loops[0]->io);
    sample.emplace(loops[0]->io);
    drain.emplace(loops[0]->io);
    try {
      acceptor->open(endpoint.protocol());
      acceptor->set_option(tcp::acceptor::reuse_address(true));
      acceptor->bind(endpoint);
      acceptor->listen();
    } catch (const std::exception& error) {
      throw std::runtime_error(fmt::format("Cannot listen on {} port {}: {}",
                                           gateway.options.host,
                                           endpoint.port(), error.what()));
    }
    port = acceptor->local_endpoint().port();
  }

  void Accept() {
    Loop& loop = *loops[next++ % loops.size()];
    acceptor->async_accept(
        loop.io, [this, &loop](const boost::system::error_code& error,
                               tcp::socket socket) {
          if (error == boost::asio::error::operation_aborted ||
              !acceptor->is_open())
            return;
          if (error) {  // no more files may be opened, as a rule
            retry->expires_after(std::chrono::milliseconds(50));
            return retry->async_wait([this](const auto&) { Accept(); });
          }
          Take(loop, std::move(socket));
          Accept();
        });
  }

  void Take(Loop& loop, tcp::socket socket) {
    if (gateway.connections >= gateway.options.limits.connections)
      return;  // closes it
    boost::asio::post(loop.io,
                      [this, &loop, socket = std::move(socket)]() mutable {
                        std::make_shared<Connection>(loop, std::move(socket),
                                                     MakeService(history))
                            ->Start();
                      });
  }

  void SampleEachSecond() {
    history.Sample(gateway);
    sample->expires_after(std::chrono::seconds(1));
    sample->async_wait([this](const boost::system::error_code& error) {
      if (!error) SampleEachSecond();
    });
  }

  // Waits for the requests that run, on the first loop.
  void AwaitEnd(SteadyTime until) {
    const bool over = std::chrono::steady_clock::now() >= until;
    if (gateway.connections == 0 || (over && ++late > 20)) {
      for (const auto& loop : loops) loop->io.stop();
      return;
    }
    if (over) gateway.hurry = true;
    drain->expires_after(std::chrono::milliseconds(20));
    drain->async_wait([this, until](const auto&) { AwaitEnd(until); });
  }

  void Drain(Milliseconds patience) {
    boost::asio::post(loops[0]->io, [this, patience] {
      const SteadyTime until = std::chrono::steady_clock::now() + patience;
      if (std::exchange(draining, true)) {
        if (patience.count() == 0) gateway.hurry = true;
        return;
      }
      gateway.draining = true;
      boost::system::error_code ignored;
      acceptor->close(ignored);
      sample->cancel();
      gateway.log.Note("draining", {},
                       fmt::format("{} requests run", gateway.requests.load()));
      AwaitEnd(until);
    });
  }

  const tcp::endpoint endpoint;
  Gateway gateway;
  History history;
  std::vector<std::unique_ptr<Loop>> loops;
  std::optional<tcp::acceptor> acceptor;
  std::optional<boost::asio::steady_timer> retry;
  std::optional<boost::asio::steady_timer> sample;
  std::optional<boost::asio::steady_timer> drain;
  std::size_t next = 0;
  int port = 0;
  bool draining = false;
  int late = 0;
};

Server::Server(Options options, Setup setup, AccessLog::Write write)
    : parts_(std::make_unique<Parts>(std::move(options), std::move(setup),
                                     std::move(write))) {}

Server::~Server() = default;

int Server::port() const { return parts_->port; }
Gateway& Server::gateway() { return parts_->gateway; }

void Server::Run() {
  parts_->Accept();
  parts_->SampleEachSecond();
  std::vector<std::thread> threads;
  for (std::size_t i = 1; i < parts_->loops.size(); ++i)
    threads.emplace_back([loop = parts_->loops[i].get()] { loop->io.run(); });
  parts_->loops[0]->io.run();
  for (std::thread& thread : threads) thread.join();
  parts_->gateway.log.Note("stopped", {}, "");
}

void Server::Drain() { parts_->Drain(parts_->gateway.options.drain); }
void Server::StopNow() { parts_->Drain(Milliseconds(0)); }

}  // namespace gateway
