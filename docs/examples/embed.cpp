// The header in a C++17 program: the mean embedding of a sequence, with handles that close themselves.
//   c++ -std=c++17 embed.cpp $(pkg-config --cflags --libs strand) && ./a.out ACGTTGCA
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>
#include <strand.h>

template <typename T, void (*close)(T *)> struct Close {
    void operator()(T *p) const { close(p); }
};
template <typename T, void (*close)(T *)> using Handle = std::unique_ptr<T, Close<T, close>>;

int main(int argc, char **argv) try {
    const std::string dna = argc > 1 ? argv[1] : "GATTACAGATTACAGGGATTACCA";
    strand_context *c = nullptr;
    if (strand_context_open(nullptr, &c)) throw std::runtime_error("no backend: set STRAND_BACKEND_PATH");
    Handle<strand_context, strand_context_close> context(c);
    auto check = [&](strand_status s) {
        if (s) throw std::runtime_error(strand_error(c));
    };
    strand_model *m = nullptr;
    check(strand_model_open(c, "hyenadna-tiny-strand", nullptr, &m));
    Handle<strand_model, strand_model_close> model(m);
    strand_plan_params params;
    strand_plan_params_init(&params);
    params.outputs = "hidden";
    params.max_length = static_cast<int64_t>(dna.size());
    strand_plan *p = nullptr;
    check(strand_plan_open(m, &params, &p));
    Handle<strand_plan, strand_plan_close> plan(p);
    strand_session *s = nullptr;
    check(strand_session_open(p, nullptr, &s));
    Handle<strand_session, strand_session_close> session(s);

    std::vector<int64_t> ids(dna.size());
    size_t n = 0;
    check(strand_tokenize(m, dna.data(), dna.size(), ids.data(), ids.size(), &n));
    strand_tensor input{"input_ids", STRAND_I64, 2, {1, static_cast<int64_t>(n)}, ids.data(), n * sizeof(int64_t)};
    strand_tensor hidden{};
    hidden.name = "hidden";
    if (strand_session_run(s, &input, 1, &hidden, 1)) throw std::runtime_error(strand_session_error(s));
    const float *h = static_cast<const float *>(hidden.data); // [1, n, channels]
    const auto channels = static_cast<size_t>(hidden.dims[2]);
    double first = 0;
    for (size_t t = 0; t < n; t++) first += h[t * channels];
    std::printf("%zu bases, %zu channels, mean of the first channel %.6f\n", n, channels, first / static_cast<double>(n));
    return 0;
} catch (const std::exception &e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
}
