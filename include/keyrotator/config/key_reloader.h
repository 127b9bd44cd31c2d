// File: config/key_reloader.h
//
// Keys that change while the program runs. A KeySource is anything that returns
// keys or throws: an environment variable, a file, a function of your own. A
// KeyReloader loads them again, on demand or when the files change, and gives
// them to the rotator. If they cannot be loaded, the rotator keeps the keys
// that it has.
//
// Below, a file is checked every second by a thread of the reloader, and at
// once after a SIGHUP, whose handler may only set a flag for the program's
// loop.
//
// Example:
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
//   static std::atomic<bool> hung_up = false;
//   std::signal(SIGHUP, [](int) { hung_up = true; });
//   if (hung_up.exchange(false)) reloader.Reload();  // in the program's loop
//
// Replace a file by renaming a new one over it, as Kubernetes does with its
// symbolic links: a load then sees either the old keys or the new ones. If a
// file is written in place, a load may see a part of it, until the next check.
//
// Changes are found by POSIX stat and not by inotify: stat sees a change on
// every mount, including one made by another machine (NFS) or behind several
// links, and takes about a microsecond a file.

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
#include "keyrotator/config/keys_from.h"  // IWYU pragma: keep
#include "keyrotator/wait.h"

namespace keyrotator {

struct KeySource {
  // Returns all the keys, or throws an exception that says why it cannot. It is
  // called on the threads that call the reloader, one at a time. The message of
  // the exception is shown with the rotator's secrets redacted; it must not
  // hold a secret that the rotator has never had.
  std::function<ApiKeys()> load;
  // The files that `load` reads; symbolic links are followed. Empty: there is
  // nothing that shows whether the keys changed, so each check loads them.
  std::vector<std::string> files = {};
};

struct ReloadOptions {
  // How often a thread of the reloader calls ReloadIfChanged, starting at once,
  // by the rotator's clock. > 0. Empty: the reloader has no thread.
  std::optional<Span> interval = {};
  // Whether a source without any key empties the pool. If not, that is an
  // error, since a file is empty for a moment while it is written.
  bool allow_no_keys = false;
  // Called with the reason when keys could not be loaded: each time by Reload;
  // by ReloadIfChanged if the reason is new or the files changed. It runs on
  // the calling thread without a lock, so it may call the reloader. It must not
  // throw.
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

// Two states of a file differ in one of these. A file that is renamed over
// another has its own inode, or a reused inode and another time.
struct FileStamp {
  int error = 0;  // of stat
  dev_t device = 0;
  ino_t inode = 0;
  off_t size = 0;
  std::time_t modified = 0;
  long modified_nanos = 0;
  // Of the inode: it also changes where a copy keeps the time of its original.
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

// The message of what `function` throws, never empty; empty if it does not.
template <class Function>
std::string ErrorOf(Function function) {
  try {
    function();
    return {};
  } catch (const std::exception& error) {
    std::string message = error.what();
    if (!message.empty()) return message;
  } catch (...) {  // a user's source may throw anything
  }
  return "an error without a message";
}

}  // namespace internal

// Keeps the keys of a rotator the same as those of a source. Keys that stay
// keep their state, and leases keep their key: see KeyRotator::Replace.
// Thread-safe. The rotator must outlive the reloader, and its on_event must not
// call it.
template <class Rotator>
class KeyReloader {
 public:
  // Loads nothing yet: the first check does. Throws std::invalid_argument if
  // `source.load` cannot be called or an option is out of range.
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
  // Stops the thread at once, or when a load that is under way has ended.
  ~KeyReloader() = default;
  KeyReloader(const KeyReloader&) = delete;
  KeyReloader& operator=(const KeyReloader&) = delete;

  // Loads the keys as they are now and gives them to the rotator, or returns
  // why it could not. It catches whatever the source throws. Concurrent calls
  // load one after the other.
  ReloadResult Reload() { return Look(/*asked=*/true); }

  // Does the same if a file changed since the last check, or if that failed. It
  // costs one stat of each file otherwise.
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
    // A file's time is as coarse as the kernel's tick, so a second change
    // within one tick cannot be seen: after a change the keys are loaded once
    // more. A failed load is tried again, since the reason may lie outside the
    // files.
    settled_ = error.empty() && !changed && !source_.files.empty();
    stamps_ = std::move(stamps);
    error_ = error;
    lock.unlock();

    if (error.empty()) return {.kind = Kind::kReplaced};
    if (news && options_.on_error) options_.on_error(error);
    return {.kind = Kind::kFailed, .message = std::move(error)};
  }

  // Returns what went wrong, or "". Sets `stamps` to those of what was read.
  std::string Load(ApiKeys& keys, std::vector<internal::FileStamp>& stamps) {
    // A file still changing after three reads is being written in place; try
    // again later.
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
  // Of the last check. All three guarded by mutex_.
  std::vector<internal::FileStamp> stamps_;
  std::string error_;
  bool settled_ = false;  // nothing to load while the files stay as they are
  std::jthread thread_;   // last, so that it ends before the rest is destroyed
};

}  // namespace keyrotator

#endif  // KEYROTATOR_CONFIG_KEY_RELOADER_H_
