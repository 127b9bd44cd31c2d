// error: conversion from .*ApiKey.* to .*std::string
// A secret comes out through Reveal() alone: fmt and streams print the name.

#include <string>

#include "keyrotator/keyrotator.h"

std::string Log(const keyrotator::ApiKey& key) {
  std::string line = key;
  return line;
}
