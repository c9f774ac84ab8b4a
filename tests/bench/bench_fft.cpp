// SPDX-License-Identifier: LGPL-2.1-or-later
// Times of the two-dimensional FFT in place, one thread, beside FFTW's (FFTW_MEASURE) if it was found when
// this was built. Leaves fft.json in the current folder.
//
//     bench_fft [SECONDS]
#include "plugins/math/transform/fft.hpp"
#include "tests/bench/race.hpp"

#ifdef MRI_HAVE_FFTW
#include <fftw3.h>
#endif

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <random>
#include <sstream>
#include <utility>
#include <vector>

using mri::cfloat;
using mri::bench::race;

namespace {

int bench(double seconds) {
    std::ostringstream o;
    o << "{\n  \"peer\": \""
#ifdef MRI_HAVE_FFTW
      << "FFTW 3, FFTW_MEASURE"
#else
      << "none"
#endif
      << "\",\n  \"rows\": [\n";
    std::printf("\n%-12s %10s %10s %8s\n", "FFT", "ours ms", "FFTW ms", "ratio");
    const std::pair<int, int> sizes[] = {{128, 128}, {192, 192}, {240, 240}, {256, 256},
                                         {320, 320}, {384, 384}, {217, 181}};
    bool first = true;
    for (auto [w, h] : sizes) {
        std::mt19937 gen(1);
        std::normal_distribution<float> d;
        mri::AlignedFloats source(2 * std::size_t(w) * std::size_t(h)), work(source.size());
        for (std::size_t i = 0; i < source.size(); i++)
            source.data()[i] = d(gen) * 1e-3f;
        // each call transforms the same data, so that the values neither grow nor vanish; the copy's time is
        // taken off
        auto fill = [&] { std::memcpy(work.data(), source.data(), source.size() * sizeof(float)); };
        mri::Fft2d fft(w, h);
        std::vector<std::function<void(int)>> contenders{[&](int) {
            fill();
            fft.forward(reinterpret_cast<cfloat*>(work.data()), false);
        }};
#ifdef MRI_HAVE_FFTW
        auto* data = reinterpret_cast<fftwf_complex*>(work.data());
        fftwf_plan plan = fftwf_plan_dft_2d(h, w, data, data, FFTW_FORWARD, FFTW_MEASURE);
        contenders.push_back([&](int) {
            fill();
            fftwf_execute(plan);
        });
#endif
        auto t = race(contenders, seconds);
        double copy = race({[&](int) { fill(); }}, 0.02)[0];
        for (auto& v : t)
            v -= copy;
        o << (first ? "" : ",\n") << "    {\"width\": " << w << ", \"height\": " << h
          << ", \"milliseconds\": " << t[0] << ", \"fftw_milliseconds\": ";
        first = false;
        if (t.size() > 1)
            o << t[1] << ", \"ratio_to_fftw\": " << t[1] / t[0] << "}";
        else
            o << "null, \"ratio_to_fftw\": null}";
        std::printf("%4dx%-7d %10.4f %10.4f %8.2f\n", w, h, t[0], t.size() > 1 ? t[1] : NAN,
                    t.size() > 1 ? t[1] / t[0] : NAN);
#ifdef MRI_HAVE_FFTW
        fftwf_destroy_plan(plan);
#endif
    }
    o << "\n  ]\n}\n";
    std::ofstream file("fft.json");
    file << o.str();
    return file.flush() ? 0 : 1;
}

} // namespace

int main(int argc, char** argv) {
    return bench(argc > 1 ? std::atof(argv[1]) : 0.25);
}
