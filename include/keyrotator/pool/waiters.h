// File: pool/waiters.h
//
// Waiters: the callers that wait for a key, first come, first served within a
// scope and a priority, and the scopes in which one of them may be served now.

#ifndef KEYROTATOR_POOL_WAITERS_H_
#define KEYROTATOR_POOL_WAITERS_H_

#include <cstddef>
#include <list>
#include <vector>

#include "keyrotator/pick_hint.h"
#include "keyrotator/pool/grant.h"
#include "keyrotator/pool/scope.h"

namespace keyrotator::internal {

// A caller that waits. The caller owns it, and takes it out before it dies.
struct Waiter {
  explicit Waiter(const PickHint& wanted) : hint(wanted) {}

  PickHint hint;
  Grant grant;
  bool is_granted = false;
  bool is_in_loop = false;  // called instead of woken
  Scope* scope = nullptr;
  std::list<Waiter*>::iterator place;
};

class Waiters {
 public:
  std::size_t size() const { return count_; }
  // The scopes with a queue.
  const std::vector<Scope*>& scopes() const { return scopes_; }

  // To the end of the scope's queue, or of those in it that go first.
  void Enter(Waiter& waiter, Scope& scope) {
    if (scope.queue.empty()) scopes_.push_back(&scope);
    waiter.scope = &scope;
    const bool is_batch = waiter.hint.priority == Priority::kBatch;
    waiter.place =
        scope.queue.insert(is_batch ? scope.queue.end() : scope.batch, &waiter);
    if (is_batch && scope.batch == scope.queue.end())
      scope.batch = waiter.place;
    ++count_;
  }

  // Out of the queue. True if the queue is now empty.
  bool Leave(Waiter& waiter) {
    Scope& scope = *waiter.scope;
    if (scope.batch == waiter.place) ++scope.batch;
    scope.queue.erase(waiter.place);
    --count_;
    if (!scope.queue.empty()) return false;
    std::erase(scopes_, &scope);
    return true;
  }

  // A caller in the scope's queue may be served now.
  void Wake(Scope& scope) { to_serve_.push_back(&scope); }
  // The next scope that was woken, or null.
  Scope* Next() {
    if (to_serve_.empty()) return nullptr;
    Scope* const scope = to_serve_.back();
    to_serve_.pop_back();
    return scope;
  }

  // A waiter that blocks a thread, or null.
  Waiter* AnyThread() const {
    for (const Scope* scope : scopes_) {
      for (Waiter* waiter : scope->queue) {
        if (!waiter->is_in_loop) return waiter;
      }
    }
    return nullptr;
  }

 private:
  std::size_t count_ = 0;
  std::vector<Scope*> scopes_;
  std::vector<Scope*> to_serve_;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_WAITERS_H_
