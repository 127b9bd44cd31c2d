// File: nginx.h
//
// nginx as a child process with one limiter, `limit_req`: a token bucket a key
// that nobody here wrote. Its access log says what it did.
//
// Example:
//   if (!Nginx::Program()) return;  // not installed
//   Nginx nginx({.per_second = 5, .burst = 10});
//   Get(nginx.base_url() + "/models");
//   for (const Nginx::Line& line : nginx.Stop()) Count(line.key, line.status);

#ifndef KEYROTATOR_TESTS_REAL_NGINX_H_
#define KEYROTATOR_TESTS_REAL_NGINX_H_

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/raw_server.h"
#include "tests/support/temporary_directory.h"

namespace keyrotator::testing {

struct NginxOptions {
  // A bucket of burst + 1 requests: as many are admitted at once.
  int per_second = 5;
  int burst = 10;
  // The Retry-After of a 429 in seconds; 0: none is sent.
  int retry_after = 0;
};

// One process, without a master or workers, that needs no rights and leaves
// nothing behind: its files are in a directory of their own. It ends with this
// object, or with the thread that made it, however that ends.
class Nginx {
 public:
  // One answered request.
  struct Line {
    double at = 0;  // seconds, by the wall clock
    int status = 0;
    std::string key;  // the value of Authorization
  };

  // Where it is; none if it is not installed.
  static std::optional<std::string> Program() {
    const char* const path = std::getenv("PATH");
    std::string folders = path == nullptr ? "" : path;
    folders += ":/usr/sbin:/usr/local/sbin";  // not in everyone's PATH
    for (std::size_t begin = 0; begin < folders.size();) {
      const std::size_t end =
          std::min(folders.find(':', begin), folders.size());
      const std::string file = folders.substr(begin, end - begin) + "/nginx";
      if (::access(file.c_str(), X_OK) == 0) return file;
      begin = end + 1;
    }
    return std::nullopt;
  }

  // Throws std::runtime_error with nginx's words if it does not start.
  explicit Nginx(const NginxOptions& options) {
    const std::string program = Program().value();
    // Another process may take the port before nginx does.
    for (int tries = 0; tries < 5; ++tries) {
      port_ = BoundSocket().port();
      Configure(options);
      Start(program);
      if (Listens()) return;
      Kill();
    }
    throw std::runtime_error("nginx does not start: " + Read("error.log"));
  }

  Nginx(const Nginx&) = delete;
  Nginx& operator=(const Nginx&) = delete;
  ~Nginx() { Kill(); }

  std::string base_url() const {
    return fmt::format("http://127.0.0.1:{}/v1", port_);
  }

  // Ends it, and reads what it wrote.
  std::vector<Line> Stop() {
    Kill(SIGTERM);
    std::vector<Line> lines;
    std::ifstream log(folder_ / "access.log");
    Line line;
    while (log >> line.at >> line.status &&
           std::getline(log >> std::ws, line.key))
      lines.push_back(line);
    return lines;
  }

 private:
  // `return` answers before the limiter is asked, hence the second server.
  void Configure(const NginxOptions& options) const {
    const std::string retry_after =
        options.retry_after == 0
            ? ""
            : fmt::format("add_header Retry-After {} always;",
                          options.retry_after);
    std::ofstream(folder_ / "nginx.conf") << fmt::format(
        R"(daemon off;
master_process off;
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections 512; }}
http {{
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  scgi_temp_path scgi;
  uwsgi_temp_path uwsgi;
  log_format told '$msec $status $http_authorization';
  access_log off;
  keepalive_requests 1000000;
  limit_req_zone $http_authorization zone=keys:1m rate={0}r/s;
  server {{
    listen 127.0.0.1:{2};
    access_log access.log told;
    error_page 429 @limited;
    location / {{
      limit_req zone=keys burst={1} nodelay;
      limit_req_status 429;
      limit_req_log_level info;
      proxy_pass http://unix:{4}/answer:;
    }}
    location @limited {{
      default_type application/json;
      {3}
      return 429 '{{"error":{{"message":"Too many requests"}}}}';
    }}
  }}
  server {{
    listen unix:{4}/answer;
    default_type application/json;
    return 200 '{{"choices":[]}}';
  }}
}}
)",
        options.per_second, options.burst, port_, retry_after,
        folder_.path().string());
  }

  void Start(const std::string& program) {
    const std::string folder = folder_.path().string();
    const std::string log = folder + "/error.log";
    const char* const arguments[] = {
        program.c_str(), "-p", folder.c_str(), "-c",
        "nginx.conf",    "-e", "error.log",    nullptr};
    folder_watch_ = ::inotify_init1(IN_CLOEXEC);
    if (::inotify_add_watch(folder_watch_, folder.c_str(), IN_CLOSE_WRITE) < 0)
      throw std::runtime_error("cannot watch " + folder);
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error("cannot fork");
    if (pid_ > 0) return;
    // In the child: nothing that could wait for a lock of a lost thread.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(out, STDOUT_FILENO);
    ::dup2(out, STDERR_FILENO);
    if (::getppid() == parent)
      ::execv(program.c_str(), const_cast<char* const*>(arguments));
    ::_exit(127);
  }

  // Whether it comes to listen; its file is there once it does.
  bool Listens() {
    // glibc 2.36 declares its function without C's linkage.
    const int process = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
    pollfd events[] = {{folder_watch_, POLLIN, 0}, {process, POLLIN, 0}};
    bool listens = false;
    // Each file that is written, until it is that one; or its end.
    while (!listens && ::poll(events, 2, 10'000) > 0 &&
           events[1].revents == 0) {
      char told[4096];
      if (::read(folder_watch_, told, sizeof(told)) <= 0) break;
      listens = !Read("nginx.pid").empty();
    }
    ::close(process);
    ::close(folder_watch_);
    return listens;
  }

  void Kill(int signal = SIGKILL) {
    if (pid_ <= 0) return;
    ::kill(pid_, signal);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

  std::string Read(const char* name) const {
    std::ifstream file(folder_ / name);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  const TemporaryDirectory folder_;
  int port_ = 0;
  pid_t pid_ = 0;
  int folder_watch_ = -1;  // while it starts
};

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_REAL_NGINX_H_
