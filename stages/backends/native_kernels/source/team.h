// Threads that work on one call together. They spin for a short while between calls, then sleep.
#pragma once
#include <unistd.h>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>
#include "isa.h"

namespace {

constexpr int SPINS = 300, SPINS_BEFORE_SLEEP = 4000;  // some microseconds, and some tens of them

// Waits for `ready`, which another thread is about to make true.
template <class Ready>
void spin(const Ready &ready) {
    for (int i = 0; !ready(); i++)
        if (i < SPINS)
            relax();
        else
            std::this_thread::yield();  // that thread may be waiting for this core
}

class Team {
  public:
    explicit Team(int size) : size_(size), process_(getpid()) {
        for (int member = 1; member < size; member++) others_.emplace_back([this, member] { serve(member); });
    }

    ~Team() {
        if (getpid() != process_) {  // a fork has none of the threads
            for (auto &thread : others_) thread.detach();
            return;
        }
        start(nullptr);
        for (auto &thread : others_) thread.join();
    }

    // Calls work(member) for every member, 0 in this thread; returns when all are done.
    void run(const std::function<void(int)> &work) {
        remaining_.store(size_ - 1, std::memory_order_relaxed);
        start(&work);
        work(0);
        spin([this] { return remaining_.load(std::memory_order_acquire) == 0; });
    }

    // Returns when every member has come here.
    void meet() {
        const int phase = phase_.load(std::memory_order_relaxed);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
            arrived_.store(0, std::memory_order_relaxed);
            phase_.store(phase + 1, std::memory_order_release);
        } else {
            spin([this, phase] { return phase_.load(std::memory_order_acquire) != phase; });
        }
    }

    // How many can work together: in the child of a fork nobody but the caller.
    int size() const { return getpid() == process_ ? size_ : 1; }

  private:
    void start(const std::function<void(int)> *work) {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            work_ = work;
            call_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
    }

    void serve(int member) {
        for (int64_t seen = 0;;) {
            const auto called = [&] { return call_.load(std::memory_order_acquire) != seen; };
            for (int i = 0; i < SPINS_BEFORE_SLEEP && !called(); i++) relax();
            if (!called()) {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, called);
            }
            seen++;
            if (!work_) return;
            (*work_)(member);
            remaining_.fetch_sub(1, std::memory_order_release);
        }
    }

    const int size_, process_;
    std::vector<std::thread> others_;
    std::mutex mutex_;
    std::condition_variable wake_;
    const std::function<void(int)> *work_ = nullptr;
    std::atomic<int64_t> call_{0};
    std::atomic<int> remaining_{0}, arrived_{0}, phase_{0};
};

}  // namespace
