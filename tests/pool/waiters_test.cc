#include "keyrotator/pool/waiters.h"

#include <vector>

#include "tests/support/catch.h"

namespace keyrotator::internal::pool_waiters_test {
namespace {

constexpr Nanos kNow = 0;

TEST_CASE("callers queue first come, first served within a scope",
          "[waiters]") {
  Scope scope("a", kNow);
  Scope other("b", kNow);
  Waiter first({}), second({}), elsewhere({});
  Waiters waiters;
  waiters.Enter(first, scope);
  waiters.Enter(elsewhere, other);
  waiters.Enter(second, scope);

  CHECK(waiters.size() == 3);
  CHECK(std::vector<Waiter*>(scope.queue.begin(), scope.queue.end()) ==
        std::vector<Waiter*>{&first, &second});
  CHECK(waiters.scopes() == std::vector<Scope*>{&scope, &other});
}

TEST_CASE("a waiter may leave from any place in its queue", "[waiters]") {
  Scope scope("a", kNow);
  Waiter first({}), second({}), third({});
  Waiters waiters;
  for (Waiter* waiter : {&first, &second, &third})
    waiters.Enter(*waiter, scope);

  CHECK_FALSE(waiters.Leave(second));
  CHECK(std::vector<Waiter*>(scope.queue.begin(), scope.queue.end()) ==
        std::vector<Waiter*>{&first, &third});
  CHECK_FALSE(waiters.Leave(first));
  CHECK(waiters.scopes() == std::vector<Scope*>{&scope});
  CHECK(waiters.Leave(third));  // nobody waits in the scope any more
  CHECK(waiters.scopes().empty());
  CHECK(waiters.size() == 0);
}

TEST_CASE("who is interactive queues before a batch, whoever of it leaves",
          "[waiters][priority]") {
  Scope scope("a", kNow);
  const PickHint batch{.priority = Priority::kBatch};
  Waiter one(batch), two(batch), three(batch), person({}), next({});
  Waiters waiters;
  const auto order = [&] {
    return std::vector<Waiter*>(scope.queue.begin(), scope.queue.end());
  };
  waiters.Enter(one, scope);
  waiters.Enter(two, scope);
  waiters.Enter(person, scope);
  CHECK(order() == std::vector<Waiter*>{&person, &one, &two});
  waiters.Leave(one);  // the first of the batch
  waiters.Enter(next, scope);
  CHECK(order() == std::vector<Waiter*>{&person, &next, &two});
  waiters.Leave(two);  // and the last
  waiters.Enter(three, scope);
  waiters.Leave(next);
  waiters.Enter(next, scope);
  CHECK(order() == std::vector<Waiter*>{&person, &next, &three});
}

TEST_CASE("scopes that were woken are served until there are none",
          "[waiters]") {
  Scope scope("a", kNow);
  Scope other("b", kNow);
  Waiters waiters;
  CHECK(waiters.Next() == nullptr);
  waiters.Wake(scope);
  waiters.Wake(other);
  CHECK(waiters.Next() == &other);
  CHECK(waiters.Next() == &scope);
  CHECK(waiters.Next() == nullptr);
}

TEST_CASE("of the waiting callers one in a thread is found", "[waiters]") {
  Scope scope("a", kNow);
  Scope other("b", kNow);
  Waiter loop({}), thread({});
  loop.is_in_loop = true;
  Waiters waiters;
  CHECK(waiters.AnyThread() == nullptr);
  waiters.Enter(loop, scope);
  CHECK(waiters.AnyThread() == nullptr);
  waiters.Enter(thread, other);
  CHECK(waiters.AnyThread() == &thread);
}

}  // namespace
}  // namespace keyrotator::internal::pool_waiters_test
