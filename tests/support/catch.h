#ifndef KEYROTATOR_TESTS_SUPPORT_CATCH_H_
#define KEYROTATOR_TESTS_SUPPORT_CATCH_H_
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif
#endif  // KEYROTATOR_TESTS_SUPPORT_CATCH_H_
