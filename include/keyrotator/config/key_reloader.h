// File: config/key_reloader.h
//
// Keys that change while the program runs. A KeySource is anything that returns
// keys or throws: an environment variable, a file, a function of your own. A
// KeyReloader loads them again, on demand or when the files change, and gives
// them to the rotator. What cannot be loaded leaves the keys as they are.
//
// Example: a file, looked at every second by a thread of the reloader's own.
//   const std::string path = "/run/secrets/openai/keys";
//   keyrotator::KeyRotator rotator(keyrotator::KeysFromFile(path));
//   keyrotator::KeyReloader reloader(
//       rotator,
//       {.load = [=] { return keyrotator::KeysFromFile(path); },
//        .files = {path}},
//       {.interval = 1s, .on_error = [](std::string_view message) {
//          fmt::print(stderr, "{}\n", message);
//        }});
//
// Example: on SIGHUP. A handler may do no more than set a flag; a loop of the
// program reloads.
//   std::atomic<bool> hung_up = false;
//   std::signal(SIGHUP, [](int) { hung_up = true; });
//   ...
//   if (hung_up.exchange(false)) reloader.Reload();
//
// Replace a file by renaming a new one over it, as Kubernetes does with its
// symbolic links: whoever loads then sees the old keys or the new ones. Of a
// file that is written in place a part may be loaded, until the next look.
//
// Files are asked for their state (POSIX stat) instead of being watched with
// inotify: that sees a change on every mount, also one that another machine
// made (NFS) and one behind several links, at about a microsecond a look.

#ifndef KEYROTATOR_CONFIG_KEY_RELOADER_H_
#define KEYROTATOR_CONFIG_KEY_RELOADER_H_

#include <sys/stat.h>
#include <sys/types.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/clock.h"
#include "keyrotator/wait.h"

namespace keyrotator {

struct KeySource {
  // Returns all the keys, or throws what says why it cannot. A reloader calls
  // it from any of the threads that call the reloader, one at a time. A message
  // is shown with the rotator's secrets taken out; one that the rotator has
  // never seen must not be in it.
  std::function<ApiKeys()> load;
  // The files that `load` reads; symbolic links are followed. Empty: nobody can
  // tell whether the keys changed, and each look loads them.
  std::vector<std::string> files = {};
};

struct ReloadOptions {
  // How often a thread of the reloader's own calls ReloadIfChanged, beginning
  // at once, by the rotator's clock. > 0. Empty: there is no such thread.
  std::optional<Span> interval = {};
  // Whether a source without any key empties the pool. Otherwise that is an
  // error, as a file is empty for a moment while it is written.
  bool allow_no_keys = false;
  // Told why keys were not loaded: by Reload each time, by ReloadIfChanged if
  // the reason is another than before or the files changed. On the thread that
  // called, without a lock, so it may call the reloader. It must not throw.
  std::function<void(std::string_view message)> on_error = {};
};

struct ReloadResult {
  enum class Kind {
    kUnchanged,  // nothing was loaded: the files are as they were
    kReplaced,   // the rotator has the keys that the source has
    kFailed,     // the rotator has the keys that it had
  };
  Kind kind = Kind::kUnchanged;
  // Why it failed, without a secret; otherwise empty.
  std::string message = {};

  bool ok() const { return kind != Kind::kFailed; }
};

namespace internal {

// What tells one state of a file from another. A file that is renamed over
// another has its own inode, or one that was used before and another time.
struct FileStamp {
  int error = 0;  // of stat
  dev_t device = 0;
  ino_t inode = 0;
  off_t size = 0;
  std::time_t modified = 0;
  long modified_nanos = 0;
  // Of the inode. It moves also where a copy keeps the time of its original.
  std::time_t changed = 0;
  long changed_nanos = 0;

  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

inline std::vector<FileStamp> StampsOf(const std::vector<std::string>& files) {
  std::vector<FileStamp> stamps;
  stamps.reserve(files.size());
  for (const std::string& file : files) {
    struct stat found {};
    if (stat(file.c_str(), &found) != 0) {
      stamps.push_back({.error = errno});
      continue;
    }
    stamps.push_back({.device = found.st_dev,
                      .inode = found.st_ino,
                      .size = found.st_size,
                      .modified = found.st_mtim.tv_sec,
                      .modified_nanos = found.st_mtim.tv_nsec,
                      .changed = found.st_ctim.tv_sec,
                      .changed_nanos = found.st_ctim.tv_nsec});
  }
  return stamps;
}

// What `function` throws, as a text that is not empty; empty if nothing.
template <class Function>
std::string ErrorOf(Function function) {
  try {
    function();
    return {};
  } catch (const std::exception& error) {
    std::string message = error.what();
    if (!message.empty()) return message;
  } catch (...) {  // the source is the user's
  }
  return "an error without a message";
}

}  // namespace internal

// Keeps a rotator's keys as a source has them. Keys that stay keep their state,
// and leases their key: see KeyRotator::Replace. Thread-safe; the rotator must
// outlive it, and the rotator's on_event must not call it.
template <class Rotator>
class KeyReloader {
 public:
  // Loads nothing yet: the first look does. Throws std::invalid_argument for a
  // source that cannot be called and for options out of range.
  KeyReloader(Rotator& rotator, KeySource source, ReloadOptions options = {})
      : rotator_(rotator),
        source_(std::move(source)),
        options_(std::move(options)) {
    if (source_.load == nullptr)
      throw std::invalid_argument("KeySource: load must be a function");
    if (!options_.interval) return;
    if (options_.interval->count() <= 0)
      throw std::invalid_argument(
          "ReloadOptions: interval must be longer than 0, or empty for no "
          "thread");
    thread_ =
        std::jthread([this](const std::stop_token& stop) { Watch(stop); });
  }
  // Ends the thread at once, or after a load that is under way.
  ~KeyReloader() = default;
  KeyReloader(const KeyReloader&) = delete;
  KeyReloader& operator=(const KeyReloader&) = delete;

  // Loads the keys as they are now and gives them to the rotator, or says why
  // it did not. Whatever the source throws ends here. Calls at the same time
  // load one after the other.
  ReloadResult Reload() { return Look(/*asked=*/true); }

  // The same if a file changed since the last look, or if that failed; else a
  // stat of each file is all.
  ReloadResult ReloadIfChanged() { return Look(/*asked=*/false); }

 private:
  using Clock =
      std::remove_reference_t<decltype(std::declval<const Rotator&>().clock())>;
  using Kind = ReloadResult::Kind;

  void Watch(const std::stop_token& stop) {
    Clock& clock = rotator_.clock();
    internal::Nanos next = 0;
    do {
      ReloadIfChanged();
      next = internal::SaturatingAdd(internal::NanosNow(clock),
                                     options_.interval->count());
    } while (
        SleepUntil(clock,
                   typename Clock::time_point(
                       internal::FromNanos<typename Clock::duration>(next)),
                   stop) &&
        !stop.stop_requested());
  }

  ReloadResult Look(bool asked) {
    std::unique_lock lock(mutex_);
    std::vector<internal::FileStamp> stamps = internal::StampsOf(source_.files);
    if (!asked && settled_ && stamps == stamps_) return {};

    ApiKeys keys;
    std::string error = Load(keys, stamps);
    if (error.empty())
      error = internal::ErrorOf([&] { rotator_.Replace(keys); });
    if (!error.empty())
      error = rotator_.Redact("the keys stay as they were: " + error);

    const bool changed = stamps != stamps_;
    const bool news = asked || changed || error != error_;
    // A file's time is as coarse as the kernel's tick, so that a second change
    // within one cannot be seen: what changed is loaded once more. What failed
    // is tried again, for the reason may lie elsewhere.
    settled_ = error.empty() && !changed && !source_.files.empty();
    stamps_ = std::move(stamps);
    error_ = error;
    lock.unlock();

    if (error.empty()) return {.kind = Kind::kReplaced};
    if (news && options_.on_error) options_.on_error(error);
    return {.kind = Kind::kFailed, .message = std::move(error)};
  }

  // Returns what went wrong. `stamps` are those of the files that were read.
  std::string Load(ApiKeys& keys, std::vector<internal::FileStamp>& stamps) {
    // Who writes so often does not rename: better to wait until it is over.
    constexpr int kMostReads = 3;
    for (int read = 1; read <= kMostReads; ++read) {
      std::string error = internal::ErrorOf([&] { keys = source_.load(); });
      std::vector<internal::FileStamp> after =
          internal::StampsOf(source_.files);
      if (stamps == after) {
        const bool none =
            std::all_of(keys.begin(), keys.end(),
                        [](const ApiKey& key) { return key.empty(); });
        if (error.empty() && none && !options_.allow_no_keys)
          error = SourceText() + ": no key";
        return error;
      }
      stamps = std::move(after);
    }
    return SourceText() + ": changing while it is read";
  }

  std::string SourceText() const {
    if (source_.files.empty()) return "the source";
    std::string text;
    for (const std::string& file : source_.files)
      text.append(text.empty() ? "" : ", ").append(file);
    return text;
  }

  Rotator& rotator_;
  const KeySource source_;
  const ReloadOptions options_;
  std::mutex mutex_;
  std::vector<internal::FileStamp> stamps_;  // under mutex_: of the last look
  bool settled_ = false;                     // under mutex_: see Look
  std::string error_;                        // under mutex_: of the last look
  std::jthread thread_;                      // the last: ends first
};

}  // namespace keyrotator

#endif  // KEYROTATOR_CONFIG_KEY_RELOADER_H_
