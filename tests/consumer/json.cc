#include <cstdio>

#include "keyrotator/key_rotator.h"
#include "keyrotator/status_json.h"

int main() {
  keyrotator::KeyRotator rotator({"sk-a"});
  if (keyrotator::StatusJson(rotator.Snapshot()).size() != 1) return 1;
  std::puts("json: ok");
}
