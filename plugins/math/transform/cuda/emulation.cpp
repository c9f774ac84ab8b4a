// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/transform/cuda/pipeline.hpp"

#include "plugins/math/base/error.hpp"
#include "plugins/math/transform/fft.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <exception>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <ucontext.h>
#include <vector>

namespace mri::cuda {

namespace emulation {

namespace {

constexpr std::size_t stack_bytes = 64 * 1024;

/// The threads of one block.
class Block {
  public:
    Block(Dim size, const std::function<void()>& thread)
        : size_(size), thread_(thread), fibres_(std::size_t{size.x} * size.y * size.z) {
        // Kept from launch to launch: fresh memory would cost more than most kernels.
        static thread_local std::vector<std::unique_ptr<std::byte[]>> stacks;
        while (stacks.size() < fibres_.size())
            stacks.push_back(std::make_unique_for_overwrite<std::byte[]>(stack_bytes));
        for (std::size_t i = 0; i < fibres_.size(); ++i)
            fibres_[i].stack = stacks[i].get();
    }

    void run(const std::vector<unsigned>& order) {
        Block* const outer = std::exchange(current_, this);
        for (Fibre& fibre : fibres_) {
            getcontext(&fibre.context);
            fibre.context.uc_stack.ss_sp = fibre.stack;
            fibre.context.uc_stack.ss_size = stack_bytes;
            fibre.context.uc_link = &scheduler_;
            fibre.done = false;
            makecontext(&fibre.context, &Block::enter, 0);
        }
        std::size_t left = 0;
        do {
            for (const unsigned index : order) {
                if (fibres_[index].done)
                    continue;
                running_ = &fibres_[index];
                threadIdx = {index % size_.x, index / size_.x % size_.y, index / size_.x / size_.y};
                swapcontext(&scheduler_, &running_->context);
                if (failure_)
                    break;
            }
            left = static_cast<std::size_t>(
                std::count_if(fibres_.begin(), fibres_.end(), [](const Fibre& f) { return !f.done; }));
            if (left != 0 && left != fibres_.size() && !failure_)
                failure_ = std::make_exception_ptr(
                    Error(Errc::failed, std::to_string(left) + " threads of a block wait at a barrier that " +
                                            std::to_string(fibres_.size() - left) + " will never reach"));
        } while (left != 0 && !failure_);
        current_ = outer;
        if (failure_) // the other fibres are left where they are: kernels own nothing
            std::rethrow_exception(failure_);
    }

    static void barrier() {
        if (!current_)
            throw Error(Errc::failed, "a barrier outside a kernel");
        Fibre* const self = current_->running_;
        swapcontext(&self->context, &current_->scheduler_);
    }

  private:
    struct Fibre {
        ucontext_t context;
        std::byte* stack = nullptr;
        bool done = false;
    };

    static void enter() {
        Block* const block = current_;
        try {
            block->thread_();
        } catch (...) {
            block->failure_ = std::current_exception();
        }
        block->running_->done = true;
    }

    Dim size_;
    const std::function<void()>& thread_;
    std::vector<Fibre> fibres_;
    ucontext_t scheduler_{};
    Fibre* running_ = nullptr;
    std::exception_ptr failure_;
    static thread_local Block* current_;
};

thread_local Block* Block::current_ = nullptr;

std::vector<unsigned> in_order(std::size_t count, Order order, std::uint32_t seed) {
    std::vector<unsigned> list(count);
    std::iota(list.begin(), list.end(), 0u);
    if (order == Order::descending)
        std::reverse(list.begin(), list.end());
    if (order == Order::shuffled) {
        std::mt19937 random(seed);
        std::shuffle(list.begin(), list.end(), random);
    }
    return list;
}

} // namespace

void launch(Dim grid, Dim block, Order order, const std::function<void()>& thread) {
    const std::size_t threads = std::size_t{block.x} * block.y * block.z;
    if (threads == 0 || threads > 1024 || block.z > 64 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
        grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
        throw Error(Errc::failed, "no device takes a launch of " + std::to_string(grid.x) + " x " +
                                      std::to_string(grid.y) + " x " + std::to_string(grid.z) +
                                      " blocks of " + std::to_string(threads) + " threads");
    gridDim = {grid.x, grid.y, grid.z};
    blockDim = {block.x, block.y, block.z};
    Block run(block, thread);
    const auto order_of_threads = in_order(threads, order, 1);
    for (const unsigned b : in_order(std::size_t{grid.x} * grid.y * grid.z, order, 2)) {
        blockIdx = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
        run.run(order_of_threads);
    }
}

} // namespace emulation

void __syncthreads() {
    emulation::Block::barrier();
}

namespace {

/// The runtime of transform.hpp without a device. Copies and kernels are done at once, which is one of the
/// orders in which streams may work; memory is full of signalling values until it is written, and its ends
/// are watched.
class HostRuntime {
  public:
    HostRuntime(emulation::Order order, std::shared_ptr<EmulationLog> log)
        : order_(order), log_(log ? std::move(log) : std::make_shared<EmulationLog>()) {}

    void enter() {}

    void* allocate(std::size_t bytes) {
        if (log_->allocated + bytes > log_->limit)
            throw Error(Errc::no_memory, "The device has no " + std::to_string(bytes) + " bytes left");
        auto block = std::make_unique<std::byte[]>(bytes + fence);
        std::fill_n(block.get(), bytes + fence, std::byte{0xff}); // NaN, -1
        log_->allocated += bytes;
        void* at = block.get();
        memory_[at] = {std::move(block), bytes};
        return at;
    }

    void free(void* at) noexcept {
        const auto found = memory_.find(at);
        if (found == memory_.end())
            std::terminate(); // freed twice, or never allocated here
        log_->allocated -= found->second.bytes;
        memory_.erase(found);
    }

    void* allocate_pinned(std::size_t bytes) { return ::operator new(bytes); }
    void free_pinned(void* at) noexcept { ::operator delete(at); }

    void upload(void* to, const void* from, std::size_t bytes) {
        check(to, bytes);
        std::memcpy(to, from, bytes);
        log_->uploaded += bytes;
    }
    void download(void* to, const void* from, std::size_t bytes, int) {
        check(from, bytes);
        std::memcpy(to, from, bytes);
        log_->downloaded += bytes;
    }
    void uploaded() {}
    void wait(int) {}
    void finish() {}
    void mark(int which) { marks_.at(static_cast<std::size_t>(which)) = std::chrono::steady_clock::now(); }
    double marked() const { return std::chrono::duration<double, std::milli>(marks_[1] - marks_[0]).count(); }

    template <class Args>
    void launch(void (*kernel)(Args), Dim grid, Dim block, const Args& args) {
        ++log_->launches;
        emulation::launch(grid, block, order_, [&] { kernel(args); });
        for (const auto& [at, m] : memory_)
            for (std::size_t i = m.bytes; i < m.bytes + fence; ++i)
                if (m.block[i] != std::byte{0xff})
                    throw Error(Errc::failed,
                                "a kernel wrote beyond the end of " + std::to_string(m.bytes) + " bytes");
    }

    void fft(Complex* grids, int width, int height, int count, bool forward) {
        ++log_->ffts;
        const std::size_t cells = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
        check(grids, cells * static_cast<std::size_t>(count) * sizeof(Complex));
        Fft2d fft(width, height);
        std::vector<cfloat> grid(cells);
        for (int i = 0; i < count; ++i, grids += cells) {
            std::memcpy(static_cast<void*>(grid.data()), grids, cells * sizeof(Complex));
            forward ? fft.forward(grid.data(), false) : fft.inverse(grid.data(), false);
            std::memcpy(static_cast<void*>(grids), grid.data(), cells * sizeof(Complex));
        }
    }

    std::string name() const { return "stand-in on the host"; }

  private:
    static constexpr std::size_t fence = 64;
    struct Memory {
        std::unique_ptr<std::byte[]> block;
        std::size_t bytes = 0;
    };

    void check(const void* at, std::size_t bytes) const {
        auto next = memory_.upper_bound(const_cast<void*>(at));
        if (next == memory_.begin())
            throw Error(Errc::failed, "a copy to memory that is not the device's");
        const auto& [start, m] = *std::prev(next);
        const auto offset =
            static_cast<std::size_t>(static_cast<const std::byte*>(at) - static_cast<std::byte*>(start));
        if (offset + bytes > m.bytes)
            throw Error(Errc::failed, "a copy beyond the end of the device's memory");
    }

    emulation::Order order_;
    std::shared_ptr<EmulationLog> log_;
    std::array<std::chrono::steady_clock::time_point, 2> marks_;
    std::map<void*, Memory, std::less<>> memory_;
};

} // namespace

std::unique_ptr<Backend> open_emulation(const Design& design, emulation::Order order, std::size_t grid_bytes,
                                        std::shared_ptr<EmulationLog> log) {
    return std::make_unique<Transform<HostRuntime>>(design, grid_bytes, order, std::move(log));
}

} // namespace mri::cuda
